#include "cli/serve_options.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string_view>

#include "cli/number_flag.h"
#include "cli/server_flags.h"

namespace aurora {
namespace {

struct Flag {
  const char* name;
  const char* value;
  const char* what;
  std::function<Status(ServeOptions&, const std::string&)> set;
};

Status need_switch(const char* flag, const std::string& text, const char* yes, bool& out) {
  if (text != yes && text != "off") {
    return Status::invalid(std::string(flag) + " is '" + text + "'; give " + yes + " or off");
  }
  out = text == yes;
  return Status::ok();
}

const std::vector<Flag>& flags() {
  static const std::vector<Flag> list = {
      {"--state", "DIR",
       "traces, drafts and checkpoints (default: under $STATE_DIRECTORY, $XDG_STATE_HOME or $HOME)",
       [](ServeOptions& o, const std::string& v) {
         o.state = v;
         return Status::ok();
       }},
      {"--capture", "on|off", "record what the target verified (default: on)",
       [](ServeOptions& o, const std::string& v) {
         return need_switch("--capture", v, "on", o.capture);
       }},
      {"--capture-rate", "R", "share of the requests that are recorded, 0 to 1 (default: 1)",
       [](ServeOptions& o, const std::string& v) {
         return need_number("--capture-rate", v, 0, 1, o.capture_rate);
       }},
      {"--train", "auto|on|off",
       "the trainer beside the server (default: auto, on without --buffer)",
       [](ServeOptions& o, const std::string& v) {
         using Train = ServeOptions::Train;
         if (v != "auto" && v != "on" && v != "off") {
           return Status::invalid("--train is '" + v + "'; give auto, on or off");
         }
         o.train = v == "auto" ? Train::kAuto : v == "on" ? Train::kOn : Train::kOff;
         return Status::ok();
       }},
      {"--gate", "on|off", "draft only where it pays, and as deep (default: on)",
       [](ServeOptions& o, const std::string& v) {
         return need_switch("--gate", v, "on", o.gate);
       }},
      {"--kernels", "auto|off",
       "our matrix products: verify batches cheaper and equal to single steps (default: auto)",
       [](ServeOptions& o, const std::string& v) {
         return need_switch("--kernels", v, "auto", o.kernels);
       }},
      {"--deterministic", "on|off",
       "start only where the same greedy request always gets the same bytes (default: off)",
       [](ServeOptions& o, const std::string& v) {
         return need_switch("--deterministic", v, "on", o.deterministic);
       }},
      {"--draft-depth", "auto|N",
       "most tokens of a draft, 1 to 16 (default: auto, as many as pay at each step)",
       [](ServeOptions& o, const std::string& v) {
         if (v == "auto") {
           o.draft_depth = 0;
           return Status::ok();
         }
         return need_number("--draft-depth", v, 1, 16, o.draft_depth);
       }},
      {"--draft-arms", "all|learnt|ngram|none",
       "what drafts: the learnt draft, repeated text, both or nothing (default: all)",
       [](ServeOptions& o, const std::string& v) {
         using Arms = ServeOptions::Arms;
         if (v != "all" && v != "learnt" && v != "ngram" && v != "none") {
           return Status::invalid("--draft-arms is '" + v + "'; give all, learnt, ngram or none");
         }
         o.arms = v == "all"      ? Arms::kAll
                  : v == "learnt" ? Arms::kChain
                  : v == "ngram"  ? Arms::kNgram
                                  : Arms::kNone;
         return Status::ok();
       }},
      {"--draft-p-min", "P",
       "stop a draft before a token less probable than this (default: 0, fixed depth)",
       [](ServeOptions& o, const std::string& v) {
         return need_number("--draft-p-min", v, 0, 1, o.draft_prob_min);
       }},
      {"--draft-depth-seed", "N",
       "draw each draft's length evenly from 1 to the depth, to test verify batches (default: 0, "
       "off)",
       [](ServeOptions& o, const std::string& v) {
         return need_number("--draft-depth-seed", v, 0, UINT32_MAX, o.depth_seed);
       }},
      {"--buffer", "URL",
       "traces to nats://host:port/?..., shared by many servers (default: a file under --state)",
       [](ServeOptions& o, const std::string& v) {
         o.buffer = v;
         return Status::ok();
       }},
      {"--buffer-mib", "N", "size of the trace buffer, oldest dropped (default: 2048)",
       [](ServeOptions& o, const std::string& v) {
         return need_number("--buffer-mib", v, 1, 1 << 24, o.buffer_mib);
       }},
      {"--trace-expires-in", "SECONDS", "a trace is deleted after this (default: 0, never)",
       [](ServeOptions& o, const std::string& v) {
         return need_number("--trace-expires-in", v, 0, 10'000'000'000, o.expires_in_s);
       }},
      {"--train-share", "S",
       "share of the time in which requests leave a core to the trainer, 0 to 1 (default: 0.25; 0: "
       "it learns while the server is idle)",
       [](ServeOptions& o, const std::string& v) {
         return need_number("--train-share", v, 0, 1, o.train_share);
       }},
      {"--rollouts", "N",
       "while idle, answer recorded prompts again, N times each, to learn from (default: 0)",
       [](ServeOptions& o, const std::string& v) {
         return need_number("--rollouts", v, 0, 1000, o.rollouts);
       }},
  };
  return list;
}

// Flags of the trainer that do not begin with --train-.
constexpr std::array<const char*, 10> kTrainerFlags = {"--init",
                                                       "--draft-dtype",
                                                       "--publish-first-records",
                                                       "--publish-every-records",
                                                       "--checkpoint-every",
                                                       "--objective",
                                                       "--step-weights",
                                                       "--discard-lambda",
                                                       "--discard-top-k",
                                                       "--branch-versions-max"};

bool is_trainer_flag(const std::string& arg) {
  return arg.starts_with("--train-") ||
         std::find(kTrainerFlags.begin(), kTrainerFlags.end(), arg) != kTrainerFlags.end();
}

// A switch: the next argument is not its value.
bool is_trainer_switch(const std::string& arg) { return arg == "--train-once"; }

const Flag* find_flag(const std::string& name) {
  for (const Flag& flag : flags())
    if (name == flag.name) return &flag;
  return nullptr;
}

// -1 is a value, --port is none.
bool is_value(const std::string& text) {
  return text.size() < 2 || text[0] != '-' ||
         std::string_view("0123456789.").find(text[1]) != std::string_view::npos;
}

// The argument at i of a flag that is ours: --name value, or --name=value in one.
struct OwnArg {
  std::string name;
  std::optional<std::string> value;
  bool joined = false;
};

OwnArg own_arg(const std::vector<std::string>& args, size_t i) {
  const size_t equals = args[i].find('=');
  if (equals != std::string::npos) {
    return {args[i].substr(0, equals), args[i].substr(equals + 1), true};
  }
  if (i + 1 < args.size() && is_value(args[i + 1])) return {args[i], args[i + 1], false};
  return {args[i], std::nullopt, false};
}

Status take_trainer_flag(const OwnArg& arg, ServeOptions& options) {
  options.trainer_args.push_back(arg.name);
  if (is_trainer_switch(arg.name))
    return arg.joined ? Status::invalid(arg.name + " takes no value") : Status::ok();
  if (!arg.value)
    return Status::invalid(arg.name + " needs a value; aurora train --help lists the flags");
  options.trainer_args.push_back(*arg.value);
  return Status::ok();
}

}  // namespace

Result<ServeOptions> parse_serve_options(const std::vector<std::string>& args) {
  ServeOptions options;
  if (const char* model = std::getenv("LLAMA_ARG_MODEL")) options.model = model;
  if (Status status = check_server_variables(); !status) return status;
  options.prints = prints_and_exits(args);
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "-h" || arg == "--help" || arg == "--usage") options.help = true;
    if (Status status = check_server_flag(arg); !status) return status;
    const OwnArg own = own_arg(args, i);
    const Flag* flag = find_flag(own.name);
    if (flag != nullptr) {
      if (!own.value) return Status::invalid(own.name + " needs a value: " + flag->value);
      if (Status status = flag->set(options, *own.value); !status) return status;
      if (!own.joined) ++i;
    } else if (is_trainer_flag(own.name)) {
      if (Status status = take_trainer_flag(own, options); !status) return status;
      if (!own.joined && !is_trainer_switch(own.name)) ++i;
    } else {
      if ((arg == "-m" || arg == "--model") && i + 1 < args.size()) options.model = args[i + 1];
      options.server_args.push_back(arg);
    }
  }
  return options;
}

std::string serve_help() {
  std::string text = "usage: aurora serve -m TARGET.gguf [flags below] [any llama-server flag]\n\n";
  for (const Flag& flag : flags()) {
    std::string left = std::string("  ") + flag.name + " " + flag.value;
    left.resize(std::max<size_t>(left.size() + 1, 30), ' ');
    text += left + flag.what + "\n";
  }
  text +=
      "  --train-...                 flags of aurora train, handed on\n\n"
      "Flags of llama-server, and variables, that are refused:\n" +
      refused_flags_help() + "\nFlags of llama-server:\n";
  return text;
}

}  // namespace aurora
