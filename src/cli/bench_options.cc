#include "cli/bench_options.h"

#include <thread>

#include "cli/number_flag.h"

namespace aurora {
namespace {

Status set_option(const std::string& flag, const std::string& value, BenchOptions& options) {
  if (flag == "-m" || flag == "--model") options.model = value;
  else if (flag == "--json") options.json = value;
  else if (flag == "--text") options.text = value;
  else if (flag == "-t" || flag == "--threads")
    return need_number(flag, value, 1, 512, options.threads);
  else if (flag == "--context") return need_number(flag, value, 1, 1 << 20, options.context);
  else if (flag == "--rounds") return need_number(flag, value, 1, 10000, options.rounds);
  else return Status::invalid("there is no flag '" + flag + "'; `aurora bench --help` lists them");
  return Status::ok();
}

}  // namespace

Result<BenchOptions> parse_bench_options(const std::vector<std::string>& args) {
  BenchOptions options;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (!args.empty() && (args[0] == "--help" || args[0] == "-h")) {
    options.help = true;
    return options;
  }
  if (args.empty() || args[0] != "verify")
    return Status::invalid(
        "say what to measure: aurora bench verify -m MODEL.gguf, aurora bench learn --help, or "
        "aurora "
        "bench flywheel --help");
  for (size_t i = 1; i < args.size(); i += 2) {
    if (args[i] == "--help" || args[i] == "-h") {
      options.help = true;
      return options;
    }
    if (i + 1 == args.size()) return Status::invalid(args[i] + " needs a value");
    if (Status status = set_option(args[i], args[i + 1], options); !status) return status;
  }
  if (options.model.empty())
    return Status::invalid("no model given; run aurora bench verify -m MODEL.gguf");
  return options;
}

std::string bench_help() {
  return R"(usage: aurora bench verify -m MODEL.gguf [options]
       aurora bench learn --help
       aurora bench flywheel --help

Milliseconds of a decode of n tokens with the logits of every row, on our kernels and on stock's, interleaved in one run.

  -m, --model FILE      the target
  --json FILE           figures: {"ours": [{"n": 1, "ms": x, "share": of stock's T(1)}, ...], "stock": [...],
                        "pays_above": [{"depth": N, "accept_len": x}, ...], "prompt_tokens_per_s": {...}, ...}
  --text FILE           also the perplexity of a text of at least 512 tokens, on both
  -t, --threads N       (all cores)
  --context N           tokens in the cache before each decode (256)
  --rounds N            runs of each size and side; medians are reported (15)
)";
}

}  // namespace aurora
