#include "lab/flywheel_options.h"

#include <algorithm>
#include <sstream>

#include "cli/number_flag.h"

namespace aurora {
namespace {

constexpr int64_t kTokensMax = 1'000'000'000;
constexpr size_t kCountMax = 1'000'000;
constexpr int kSlotsMax = 64;

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

Status set_stream(const std::string& value, Stream& stream) {
  for (const Stream known : {Stream::kMixed, Stream::kOrdered, Stream::kHostile}) {
    if (value != to_string(known)) continue;
    stream = known;
    return Status::ok();
  }
  return Status::invalid("--stream is mixed, ordered or hostile");
}

Status set_slots(const std::string& flag, const std::string& value, std::vector<int>& slots) {
  slots.clear();
  for (const std::string& part : split(value)) {
    int number = 0;
    if (Status s = need_number(flag, part, 1, kSlotsMax, number); !s) return s;
    slots.push_back(number);
  }
  return slots.empty() ? Status::invalid("--slots needs a number") : Status::ok();
}

Status check_arms(const std::vector<std::string>& arms) {
  for (const std::string& arm : arms) {
    const bool known = arm == "learning" || arm == "off" || arm == "none" || arm == "ngram" ||
                       arm == "stock" || (arm.starts_with("stock-") && arm.size() > 6);
    if (!known)
      return Status::invalid("there is no arm '" + arm +
                             "'; `aurora bench flywheel --help` has them");
  }
  return Status::ok();
}

Status set_path(const std::string& flag, const std::string& value, FlywheelOptions& options) {
  if (flag == "-m" || flag == "--model") options.model = value;
  else if (flag == "--prompts") options.prompts = split(value);
  else if (flag == "--stock") options.stock = value;
  else if (flag == "--json") options.json_path = value;
  else if (flag == "--html") options.html_path = value;
  else if (flag == "--svg") options.svg_path = value;
  else if (flag == "--keep") options.keep = value;
  else if (flag == "--merge") options.merge_path = value;
  else
    return Status::invalid("there is no flag '" + flag +
                           "'; `aurora bench flywheel --help` lists them");
  return Status::ok();
}

Status set_option(const std::string& flag, const std::string& value, FlywheelOptions& options) {
  if (flag == "--stream") return set_stream(value, options.stream);
  if (flag == "--slots") return set_slots(flag, value, options.slots);
  if (flag == "--learn-tokens")
    return need_number(flag, value, 1, kTokensMax, options.learn_tokens);
  if (flag == "--count") return need_number(flag, value, 0, kCountMax, options.count);
  if (flag == "--warm") return need_number(flag, value, 0, kCountMax, options.warm);
  if (flag == "--max-tokens") return need_number(flag, value, 1, 1 << 20, options.tokens_max);
  if (flag == "--temperature") return need_number(flag, value, 0, 100, options.temperature);
  if (flag == "--seed") return need_number(flag, value, 0, UINT32_MAX, options.seed);
  if (flag == "--static-tokens")
    return need_number(flag, value, 0, kTokensMax, options.static_tokens);
  if (flag == "--pair-every") return need_number(flag, value, 0, kCountMax, options.pair_every);
  if (flag == "--arms") return check_arms(options.arms = split(value));
  if (flag == "--trainer") {
    options.trainer_beside = value == "beside";
    if (value == "beside" || value == "stopped") return Status::ok();
    return Status::invalid("--trainer is stopped or beside");
  }
  return set_path(flag, value, options);
}

// Before the other flags, which may say otherwise.
void make_quick(FlywheelOptions& options) {
  options.quick = true;
  options.learn_tokens = 800;
  options.count = 3;
  options.tokens_max = 48;
}

Status check(const FlywheelOptions& options) {
  if (options.model.empty())
    return Status::invalid(
        "no model given; run aurora bench flywheel -m FILE --prompts FILE.jsonl");
  if (options.stream == Stream::kHostile) {
    if (!options.prompts.empty())
      return Status::invalid("--stream hostile makes its own prompts: leave out --prompts");
    if (options.pair_every == 0)
      return Status::invalid("--stream hostile is measured by pairs: --pair-every is not 0 there");
  } else if (options.prompts.empty()) {
    return Status::invalid("no prompts given; add --prompts FILE.jsonl");
  }
  if (options.static_tokens == 0) return Status::ok();
  if (options.stream != Stream::kOrdered || options.prompts.size() < 2)
    return Status::invalid(
        "--static-tokens freezes a draft at the end of the first domain: give --stream ordered and "
        "two files or more");
  if (options.static_tokens >= options.learn_tokens)
    return Status::invalid("--static-tokens must be less than --learn-tokens");
  return Status::ok();
}

}  // namespace

const char* to_string(Stream stream) {
  switch (stream) {
    case Stream::kMixed: return "mixed";
    case Stream::kOrdered: return "ordered";
    case Stream::kHostile: return "hostile";
  }
  return "";
}

int FlywheelOptions::slots_max() const { return *std::max_element(slots.begin(), slots.end()); }

Result<FlywheelOptions> parse_flywheel_options(const std::vector<std::string>& args) {
  FlywheelOptions options;
  options.arms = {"off", "none", "ngram", "stock", "stock-ngram-mod", "stock-ngram-map-k4v"};
  options.stock = AURORA_LLAMA_SERVER;
  const auto ours_end = std::find(args.begin(), args.end(), "--");
  if (std::find(args.begin(), ours_end, "--quick") != ours_end) make_quick(options);
  for (auto at = args.begin(); at != ours_end; ++at) {
    if (*at == "--help" || *at == "-h") {
      options.help = true;
      return options;
    }
    if (*at == "--quick") continue;
    const size_t equals = at->starts_with("--") ? at->find('=') : std::string::npos;
    const std::string flag = at->substr(0, equals);
    std::string value;
    if (equals != std::string::npos) value = at->substr(equals + 1);
    else if (at + 1 == ours_end) return Status::invalid(flag + " needs a value");
    else value = *++at;
    if (Status s = set_option(flag, value, options); !s) return s;
  }
  if (ours_end != args.end()) options.server_flags.assign(ours_end + 1, args.end());
  if (Status s = check(options); !s) return s;
  return options;
}

std::string flywheel_help() {
  return R"(usage: aurora bench flywheel -m MODEL.gguf --prompts FILE.jsonl[,FILE.jsonl...] [options] [-- FLAGS OF ALL SERVERS]

Does what is learnt reach the clock? Starts `aurora serve` with default flags and nothing learnt, asks it over HTTP, and then
asks all ways to decode the same new prompts, in a turning order. Starts and ends every server itself.

  -m, --model FILE      the target
  --prompts F[,G...]    traffic files, as for aurora replay
  --stream S            mixed: all lines shuffled; ordered: file after file, shares of the tokens as they have lines; hostile:
                        random letters and a language that changes with every prompt, made by the bench (mixed)
  --learn-tokens N      that the learning server serves first (20000)
  --pair-every N        while it learns, each Nth turn is also asked with X-Aurora-Speculate: off, right before or behind (3;
                        0: never)
  --static-tokens N     with ordered: the draft of that moment is frozen in a server of its own, which is asked whatever
                        follows as well (0: none). The first file's share is N then
  --count N             new prompts that all arms are asked, for each number of slots (24)
  --warm N              every other server serves the last N prompts of the learning first, unmeasured: what it keeps of past
                        traffic, it has then too (0)
  --slots N[,N...]      requests at a time; the first number also while it learns (1)
  --max-tokens N        length of an answer at most (200)
  --temperature X       (0)
  --seed N              of the sampling, the shuffle and the hostile prompts (20)
  --arms LIST           beside the learning server: off (itself, asked without drafts), none (ours with --draft-arms none),
                        ngram (ours with --draft-arms ngram), stock (llama-server), stock-TYPE (llama-server --spec-type TYPE)
                        (off,none,ngram,stock,stock-ngram-mod,stock-ngram-map-k4v)
  --trainer T           while the arms are asked: stopped, or beside: it goes on while the learning server is (stopped)
  --stock FILE          the llama-server (of the same build as this program)
  --json FILE           the figures; --merge FILE: and those of an earlier run that this one lacks
  --html FILE           a self-contained page with plots; --svg FILE: the curve while it learns alone
  --keep DIR            an empty folder, where the states and logs of all servers stay
  --quick               a run of about a minute: --learn-tokens 800 --count 3 --max-tokens 48

A window is 50 requests of the learning server, or an eighth of --learn-tokens. At one slot a speed is tokens over the time of
decoding, at several tokens over the time of the whole turn.
)";
}

}  // namespace aurora
