#include "cli/serve_options.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <string_view>

#include "cli/number_flag.h"

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
      {"--state", "DIR", "traces, drafts and checkpoints (default: $XDG_STATE_HOME/aurora/TARGET)",
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
      {"--gate", "on|off", "a draft serves only where it pays (default: on)",
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
      {"--draft-depth", "N", "tokens drafted a step, 1 to 16 (default: 2)",
       [](ServeOptions& o, const std::string& v) {
         return need_number("--draft-depth", v, 1, 16, o.draft_depth);
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

struct Refusal {
  const char* flag;
  const char* why;
};

// What the flywheel cannot serve yet: refused before the model is loaded, never half working.
constexpr std::array<Refusal, 17> kRefused = {{
    {"-md", "the draft is trained here; start from your own with --init FILE"},
    {"--model-draft", "the draft is trained here; start from your own with --init FILE"},
    {"--spec-draft-model", "the draft is trained here; start from your own with --init FILE"},
    {"--spec-type", "aurora serve has one speculator; leave the flag out"},
    {"--spec-default", "aurora serve has one speculator; leave the flag out"},
    {"--eagle3", "aurora serve has one speculator; leave the flag out"},
    {"--mtp", "aurora serve has one speculator; leave the flag out"},
    {"--spec-draft-n-max", "give --draft-depth N"},
    {"--lora", "a draft follows one target; merge the adapter into the model file first"},
    {"--lora-scaled", "a draft follows one target; merge the adapter into the model file first"},
    {"--context-shift", "shifted cells have no taps to learn from; raise -c"},
    {"--cache-reuse", "shifted cells have no taps to learn from; the plain prompt cache stays on"},
    {"--backend-sampling", "the law of each position is read from its logits; leave the flag out"},
    {"-bs", "the law of each position is read from its logits; leave the flag out"},
    {"-hf", "download the model first and give -m FILE"},
    {"--hf-repo", "download the model first and give -m FILE"},
    {"--models-dir", "aurora serves one target a process; give -m FILE"},
}};

Status refused(const std::string& arg) {
  for (const Refusal& refusal : kRefused) {
    if (arg == refusal.flag)
      return Status::invalid(arg + " does not go with aurora serve: " + refusal.why);
  }
  return Status::ok();
}

}  // namespace

Result<ServeOptions> parse_serve_options(const std::vector<std::string>& args) {
  ServeOptions options;
  if (const char* model = std::getenv("LLAMA_ARG_MODEL")) options.model = model;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "-h" || arg == "--help") options.help = true;
    if (Status status = refused(arg); !status) return status;
    const bool has_value = i + 1 < args.size();
    bool ours = false;
    for (const Flag& flag : flags()) {
      if (arg != flag.name) continue;
      if (!has_value) return Status::invalid(arg + " needs a value: " + flag.value);
      if (Status status = flag.set(options, args[++i]); !status) return status;
      ours = true;
    }
    if (ours) continue;
    if (is_trainer_flag(arg)) {
      if (!has_value)
        return Status::invalid(arg + " needs a value; aurora train --help lists the flags");
      options.trainer_args.push_back(arg);
      options.trainer_args.push_back(args[++i]);
      continue;
    }
    if ((arg == "-m" || arg == "--model") && has_value) options.model = args[i + 1];
    options.server_args.push_back(arg);
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
      "  --train-...                 flags of aurora train, handed on\n\nFlags of llama-server:\n";
  return text;
}

}  // namespace aurora
