#include "cli/serve_options.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "cli/server_flags.h"
#include "train/train_options.h"

namespace aurora {
namespace {

// What the server says to its trainer itself, or has a meaning of its own for.
constexpr std::array<std::string_view, 6> kNotHandedOn = {
    "-m, --model", "--state", "--buffer", "--gate", "--draft-depth", "-h, --help"};

std::vector<Flag> own_flags(ServeOptions& o) {
  using Train = ServeOptions::Train;
  using Arms = ServeOptions::Arms;
  std::vector<Flag> flags = {
      text_flag("--state", "DIR", "traces, drafts and checkpoints", o.state),
      choice_flag("--capture", "record what the target verified", o.capture,
                  {{"on", true}, {"off", false}}),
      number_flag("--capture-rate", "share of the requests that are recorded", o.capture_rate, 0, 1,
                  "R"),
      choice_flag("--train", "the trainer beside the server; auto: on without --buffer", o.train,
                  {{"auto", Train::kAuto}, {"on", Train::kOn}, {"off", Train::kOff}}),
      choice_flag("--gate", "draft only where it pays, and as deep", o.gate,
                  {{"on", true}, {"off", false}}),
      choice_flag("--kernels",
                  "our matrix products: verify batches cheaper and equal to single steps",
                  o.kernels, {{"auto", true}, {"off", false}}),
      choice_flag("--deterministic",
                  "start only where the same greedy request always gets the same bytes",
                  o.deterministic, {{"on", true}, {"off", false}}),
      word_or_number_flag("--draft-depth", "auto", 0,
                          "most tokens of a draft; auto: as many as pay at each step",
                          o.draft_depth, 1, 16),
      choice_flag("--draft-arms", "what drafts: the learnt draft, repeated text, both or nothing",
                  o.arms,
                  {{"all", Arms::kAll},
                   {"learnt", Arms::kChain},
                   {"ngram", Arms::kNgram},
                   {"none", Arms::kNone}}),
      number_flag("--draft-p-min", "stop a draft before a token less probable than this; 0: never",
                  o.draft_prob_min, 0, 1, "P"),
      number_flag(
          "--draft-depth-seed",
          "draw each draft's length evenly from 1 to the depth, to test verify batches; 0: off",
          o.depth_seed, 0, UINT32_MAX),
      text_flag("--buffer", "URL",
                "traces to nats://host:port/?..., shared by many servers, instead of a file under "
                "--state",
                o.buffer),
      number_flag("--buffer-mib", "size of the trace buffer, oldest dropped", o.buffer_mib, 1,
                  1 << 24),
      number_flag("--trace-expires-in", "a trace is deleted after this; 0: never", o.expires_in_s,
                  0, 10'000'000'000, "SECONDS"),
      number_flag("--train-share",
                  "share of the time in which requests leave a core to the trainer; 0: it learns "
                  "while the server is idle",
                  o.train_share, 0, 1, "S"),
      number_flag("--rollouts",
                  "while idle, answer recorded prompts again, N times each, to learn from",
                  o.rollouts, 0, 1000),
  };
  flags.front().otherwise = "under $STATE_DIRECTORY, $XDG_STATE_HOME or $HOME";
  return flags;
}

// The trainer's own table checks them here, before a model is loaded.
std::vector<Flag> trainer_flags(TrainOptions& checked, std::vector<std::string>& words) {
  std::vector<Flag> flags = train_command(checked).flags;
  std::erase_if(flags, [](const Flag& flag) {
    return std::find(kNotHandedOn.begin(), kNotHandedOn.end(), flag.names) != kNotHandedOn.end();
  });
  return handed_on(std::move(flags), words);
}

// llama-server has them too: they stay where they are.
void note_shared_flags(ServeOptions& options) {
  const auto& args = options.server_args;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "-h" || args[i] == "--help" || args[i] == "--usage") options.help = true;
    if ((args[i] == "-m" || args[i] == "--model") && i + 1 < args.size())
      options.model = args[i + 1];
  }
}

}  // namespace

CommandLine serve_command(ServeOptions& options) {
  return {"aurora serve",
          "-m TARGET.gguf [flags below] [any llama-server flag]",
          "llama-server whose draft trains itself on the traffic that it serves.",
          own_flags(options),
          nullptr,
          &options.server_args,
          "Flags of aurora train (--train-... and others) are handed on to the trainer.\n\n"
          "Flags of llama-server, and variables, that are refused:\n" +
              refused_flags_help() + "\nFlags of llama-server:\n"};
}

Result<ServeOptions> parse_serve_options(const std::vector<std::string>& args) {
  ServeOptions options;
  if (const char* model = std::getenv("LLAMA_ARG_MODEL")) options.model = model;
  if (Status status = check_server_variables(); !status) return status;
  options.prints = prints_and_exits(args);
  for (const std::string& arg : args)
    if (Status status = check_server_flag(arg); !status) return status;
  TrainOptions checked;
  CommandLine line = serve_command(options);
  for (Flag& flag : trainer_flags(checked, options.trainer_args))
    line.flags.push_back(std::move(flag));
  if (Status status = parse_flags(line, args); !status) return status;
  note_shared_flags(options);
  return options;
}

std::string serve_help() {
  ServeOptions defaults;
  return help_of(serve_command(defaults));
}

}  // namespace aurora
