#include "cli/replay_options.h"

#include <cstdint>
#include <utility>

#include "cli/number_flag.h"

namespace aurora {

const char* const kReplayUsage =
    R"(usage: aurora replay FILE.jsonl... [options]

Sends the prompts of traffic files to a running server and reports accept length (tokens generated for
each step of the target), tokens/s and every swap of the draft.

  --url URL             the server (http://127.0.0.1:8080)
  --concurrency N       requests in flight (1)
  --order ORDER         sequential: file after file; mixed: all lines shuffled (sequential)
  --skip N, --count N   of each file: lines left out first, lines taken then (0, all)
  --max-tokens N        length of an answer at most (80)
  --temperature X       (0)
  --seed N              of the sampling and of the shuffle (20)
  --baseline-every N    after each N requests, ask for the last of them again without a draft (0: never)
  --json FILE           figures
  --html FILE           a self-contained page with the plot
  --svg FILE            the plot alone
  --api-key KEY         of the server
)";

namespace {

constexpr size_t kConcurrencyMax = 256;

Status set_option(const std::string& name, const std::string& value, ReplayOptions* options) {
  constexpr size_t kCountMax = 1'000'000'000;
  constexpr int kTokensMax = 1'000'000;
  constexpr double kTemperatureMax = 100;
  if (name == "--url") options->url = value;
  else if (name == "--api-key") options->api_key = value;
  else if (name == "--json") options->json_path = value;
  else if (name == "--html") options->html_path = value;
  else if (name == "--svg") options->svg_path = value;
  else if (name == "--order" && value == "mixed") options->traffic.mixed = true;
  else if (name == "--order" && value == "sequential") options->traffic.mixed = false;
  else if (name == "--order") return Status::invalid("--order is mixed or sequential");
  else if (name == "--concurrency") {
    return need_number(name, value, 1, kConcurrencyMax, options->concurrency);
  } else if (name == "--skip") {
    return need_number(name, value, 0, kCountMax, options->traffic.skip);
  } else if (name == "--count") {
    return need_number(name, value, 0, kCountMax, options->traffic.count);
  } else if (name == "--seed") {
    return need_number(name, value, 0, UINT32_MAX, options->traffic.seed);
  } else if (name == "--baseline-every") {
    return need_number(name, value, 0, kCountMax, options->baseline_every);
  } else if (name == "--max-tokens") {
    return need_number(name, value, 1, kTokensMax, options->tokens_max);
  } else if (name == "--temperature") {
    return need_number(name, value, 0, kTemperatureMax, options->temperature);
  } else {
    return Status::invalid("unknown option " + name);
  }
  return Status::ok();
}

}  // namespace

Result<ReplayOptions> parse_replay_options(int argc, char** argv) {
  ReplayOptions options;
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name.rfind("--", 0) != 0) {
      options.files.push_back(std::move(name));
      continue;
    }
    std::string value;
    if (const size_t equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else if (i + 1 < argc) {
      value = argv[++i];
    } else {
      return Status::invalid(name + " needs a value");
    }
    if (Status status = set_option(name, value, &options); !status) return status;
  }
  if (options.files.empty()) return Status::invalid("no traffic file given");
  if (options.url.rfind("http://", 0) != 0) return Status::invalid("--url must begin with http://");
  return options;
}

}  // namespace aurora
