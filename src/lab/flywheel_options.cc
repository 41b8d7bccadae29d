#include "lab/flywheel_options.h"

#include <algorithm>
#include <sstream>

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

bool set_slots(const std::string& value, std::vector<int>& slots) {
  slots.clear();
  for (const std::string& part : split(value)) {
    int number = 0;
    if (!parse_number(part, 1, kSlotsMax, number)) return false;
    slots.push_back(number);
  }
  return !slots.empty();
}

bool set_arms(const std::string& value, std::vector<std::string>& arms) {
  arms = split(value);
  return std::all_of(arms.begin(), arms.end(), [](const std::string& arm) {
    return arm == "learning" || arm == "off" || arm == "none" || arm == "ngram" || arm == "stock" ||
           (arm.starts_with("stock-") && arm.size() > 6);
  });
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

std::vector<Flag> learning_flags(FlywheelOptions& o) {
  return {
      text_flag("-m, --model", "FILE", "the target", o.model),
      {"--prompts", "F[,G...]", "traffic files, as for aurora replay", "files, as in F,G", "", "",
       [&o](const std::string& v) { return !(o.prompts = split(v)).empty(); }},
      choice_flag("--stream",
                  "mixed: all lines shuffled; ordered: file after file, shares of the tokens as "
                  "they have lines; hostile: random letters and a language that changes with every "
                  "prompt, made by the bench",
                  o.stream,
                  {{"mixed", Stream::kMixed},
                   {"ordered", Stream::kOrdered},
                   {"hostile", Stream::kHostile}}),
      number_flag("--learn-tokens", "that the learning server serves first", o.learn_tokens, 1,
                  kTokensMax),
      number_flag(
          "--pair-every",
          "while it learns, each Nth turn is also asked with X-Aurora-Speculate: off, right "
          "before or behind; 0: never",
          o.pair_every, 0, kCountMax),
      number_flag("--static-tokens",
                  "with ordered: the draft of that moment is frozen in a server of its own, which "
                  "is asked whatever follows as well; 0: none. The first file's share is N then",
                  o.static_tokens, 0, kTokensMax),
      number_flag("--count", "new prompts that all arms are asked, for each number of slots",
                  o.count, 0, kCountMax),
      number_flag("--warm",
                  "every other server serves the last N prompts of the learning first, unmeasured: "
                  "what it keeps of past traffic, it has then too",
                  o.warm, 0, kCountMax),
      {"--slots", "N[,N...]", "requests at a time; the first number also while it learns",
       "numbers from 1 to 64, as in 1,4", "", "1",
       [&o](const std::string& v) { return set_slots(v, o.slots); }},
      number_flag("--max-tokens", "length of an answer at most", o.tokens_max, 1, 1 << 20),
      number_flag("--temperature", "of the sampling", o.temperature, 0, 100, "X"),
      number_flag("--seed", "of the sampling, the shuffle and the hostile prompts", o.seed, 0,
                  UINT32_MAX),
  };
}

std::vector<Flag> asking_flags(FlywheelOptions& o) {
  return {
      {"--arms", "LIST",
       "beside the learning server: off (itself, asked without drafts), none (ours with "
       "--draft-arms none), ngram (ours with --draft-arms ngram), stock (llama-server), stock-TYPE "
       "(llama-server --spec-type TYPE)",
       "some of learning, off, none, ngram, stock and stock-TYPE, with commas between", "",
       joined(o.arms), [&o](const std::string& v) { return set_arms(v, o.arms); }},
      choice_flag("--trainer",
                  "while the arms are asked: stopped, or beside: it goes on while the learning "
                  "server is",
                  o.trainer_beside, {{"stopped", false}, {"beside", true}}),
      text_flag("--stock", "FILE", "the llama-server", o.stock),
      text_flag("--json", "FILE", "the figures", o.json_path),
      text_flag("--merge", "FILE", "and those of an earlier run that this one lacks", o.merge_path),
      text_flag("--html", "FILE", "a self-contained page with plots", o.html_path),
      text_flag("--svg", "FILE", "the curve while it learns alone", o.svg_path),
      text_flag("--keep", "DIR", "an empty folder, where the states and logs of all servers stay",
                o.keep),
      switch_flag("--quick",
                  "a run of about a minute: --learn-tokens 800 --count 3 --max-tokens 48", o.quick),
      help_flag(o.help),
  };
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

CommandLine flywheel_command(FlywheelOptions& options) {
  options.arms = {"off", "none", "ngram", "stock", "stock-ngram-mod", "stock-ngram-map-k4v"};
  CommandLine line = {
      "aurora bench flywheel",
      "-m MODEL.gguf --prompts FILE.jsonl[,FILE.jsonl...] [flags] [-- FLAGS OF ALL SERVERS]",
      "Does what is learnt reach the clock? Starts `aurora serve` with default flags and nothing "
      "learnt, asks it over HTTP, and then asks all ways to decode the same new prompts, in a "
      "turning order. Starts and ends every server itself.",
      learning_flags(options)};
  for (Flag& flag : asking_flags(options)) line.flags.push_back(std::move(flag));
  line.notes =
      "A window is 50 requests of the learning server, or an eighth of --learn-tokens. At one slot "
      "a speed\nis tokens over the time of decoding, at several tokens over the time of the whole "
      "turn.\n";
  return line;
}

Result<FlywheelOptions> parse_flywheel_options(const std::vector<std::string>& args) {
  FlywheelOptions options;
  const auto ours_end = std::find(args.begin(), args.end(), "--");
  if (std::find(args.begin(), ours_end, "--quick") != ours_end) make_quick(options);
  if (Status s = parse_flags(flywheel_command(options), {args.begin(), ours_end}); !s) return s;
  if (options.help) return options;
  if (options.stock.empty()) options.stock = AURORA_LLAMA_SERVER;
  if (ours_end != args.end()) options.server_flags.assign(ours_end + 1, args.end());
  if (Status s = check(options); !s) return s;
  return options;
}

}  // namespace aurora
