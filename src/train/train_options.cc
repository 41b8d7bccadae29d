#include "train/train_options.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>

#include "base/crc32c.h"
#include "base/parse_number.h"

namespace aurora {
namespace {

using Setter = std::function<bool(TrainOptions&, const std::string&)>;
using Getter = std::function<std::string(const TrainOptions&)>;

struct Flag {
  const char* name;
  const char* value;  // empty: a switch
  const char* what;
  Setter set;
  Getter show;
};

std::string show_number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", value);
  return text;
}

// A number reached by `at` within [min, max].
template <typename At, typename T>
Flag number(const char* name, const char* what, At at, T min, T max) {
  return {name, "N", what,
          [at, min, max](TrainOptions& o, const std::string& v) {
            return parse_number<T>(v, min, max, at(o));
          },
          [at](const TrainOptions& o) {
            return show_number(static_cast<double>(at(const_cast<TrainOptions&>(o))));
          }};
}

// A number, or the word that stands for `of_word`. values: "word|N".
template <typename At>
Flag word_or_number(const char* name, const char* values, const char* what, At at, int of_word,
                    int min, int max) {
  const std::string word = std::string(values, std::strcspn(values, "|"));
  return {name, values, what,
          [=](TrainOptions& o, const std::string& v) {
            if (v != word) return parse_number(v, min, max, at(o));
            at(o) = of_word;
            return true;
          },
          [=](const TrainOptions& o) {
            const int value = at(const_cast<TrainOptions&>(o));
            return value == of_word ? word : show_number(value);
          }};
}

template <typename At>
Flag text(const char* name, const char* value, const char* what, At at) {
  return {name, value, what,
          [at](TrainOptions& o, const std::string& v) {
            at(o) = v;
            return !v.empty();
          },
          [at](const TrainOptions& o) { return at(const_cast<TrainOptions&>(o)); }};
}

#define AURORA_AT(field) \
  [](TrainOptions & o) -> auto& { return o.field; }

Flag dtype_flag() {
  return {
      "--draft-dtype", "q8_0|f16|f32", "type of a published draft's matrices",
      [](TrainOptions& o, const std::string& v) {
        if (v == "q8_0") o.dtype = DraftDtype::kQ8_0;
        else if (v == "f16") o.dtype = DraftDtype::kF16;
        else if (v == "f32") o.dtype = DraftDtype::kF32;
        else return false;
        return true;
      },
      [](const TrainOptions& o) {
        return o.dtype == DraftDtype::kQ8_0 ? "q8_0" : o.dtype == DraftDtype::kF16 ? "f16" : "f32";
      }};
}

Flag gate_flag() {
  return {"--gate", "replay|off",
          "replay: publish when better on held-out requests; off: whenever a draft is due",
          [](TrainOptions& o, const std::string& v) {
            o.loop.gate = v != "off";
            return v == "replay" || v == "off";
          },
          [](const TrainOptions& o) { return o.loop.gate ? "replay" : "off"; }};
}

Flag bf16_flag() {
  return {"--train-bf16", "auto|on|off",
          "bf16 products; auto: where the CPU has instructions for them",
          [](TrainOptions& o, const std::string& v) {
            o.bf16 = v;
            return v == "auto" || v == "on" || v == "off";
          },
          [](const TrainOptions& o) { return o.bf16; }};
}

// Of one group of weights, or of several.
Flag rate_flag(const char* name, const char* what, std::vector<float LearnOptions::*> groups) {
  return {name, "X|auto", what,
          [groups](TrainOptions& o, const std::string& v) {
            float rate = LearnOptions::kDefaultRate;
            if (v != "auto" && !parse_number(v, 0.0f, 1.0f, rate)) return false;
            for (const auto group : groups) o.learn.*group = rate;
            return true;
          },
          [group = groups.back()](const TrainOptions& o) {
            const float rate = o.learn.*group;
            return rate == LearnOptions::kDefaultRate ? "auto" : show_number(rate);
          }};
}

struct ObjectiveName {
  const char* name;
  ObjectiveKind kind;
};

constexpr ObjectiveName kObjectives[] = {
    {"forward-kl", ObjectiveKind::kForwardKl},
    {"reverse-kl", ObjectiveKind::kReverseKl},
    {"cross-entropy", ObjectiveKind::kCrossEntropy},
    {"accept-len", ObjectiveKind::kAcceptLen},
    {"accept-len-greedy", ObjectiveKind::kAcceptLenGreedy},
    {"overlap-nla", ObjectiveKind::kOverlapNla},
    {"overlap-blend", ObjectiveKind::kOverlapBlend},
};

Flag objective_flag() {
  static const std::string names = [] {
    std::string all;
    for (const ObjectiveName& o : kObjectives)
      all += (all.empty() ? "" : "|") + std::string(o.name);
    return all;
  }();
  return {"--objective", names.c_str(), "loss of the rows of accepted text",
          [](TrainOptions& o, const std::string& v) {
            for (const ObjectiveName& known : kObjectives) {
              if (v != known.name) continue;
              o.learn.objective = known.kind;
              return true;
            }
            return false;
          },
          [](const TrainOptions& o) {
            for (const ObjectiveName& known : kObjectives)
              if (o.learn.objective == known.kind) return std::string(known.name);
            return std::string();
          }};
}

Flag step_weights_flag() {
  return {"--step-weights", "decay|reach",
          "decay: step k weighs 0.8^k; reach: and by the chance that serving gets to it",
          [](TrainOptions& o, const std::string& v) {
            o.learn.reach_weights = v == "reach";
            return v == "reach" || v == "decay";
          },
          [](const TrainOptions& o) { return o.learn.reach_weights ? "reach" : "decay"; }};
}

std::vector<Flag> loss_flags() {
  return {
      objective_flag(),
      step_weights_flag(),
      number("--train-unreached",
             "share of the rows that train a further step where serving would have stopped",
             AURORA_AT(learn.unreached_share), 0.0f, 1.0f),
      number("--train-prompt-rows", "last tokens of a prompt that are learnt from too",
             AURORA_AT(learn.prompt_rows_max), 0, 1 << 20),
      number("--train-prompt-weight", "weight of a prompt token's row",
             AURORA_AT(learn.prompt_weight), 0.0f, 1.0f),
      number("--train-average", "updates whose mean serves; 0: the last weights",
             AURORA_AT(learn.average_updates), 0, 1 << 20),
      number("--train-warmup", "updates over which the rates rise", AURORA_AT(learn.warmup_updates),
             0, 1 << 20),
      number("--train-beta1", "of AdamW", AURORA_AT(learn.beta1), 0.0f, 0.9999f),
      number("--train-beta2", "of AdamW", AURORA_AT(learn.beta2), 0.0f, 0.9999f),
      number("--train-dropout", "of hidden units while training", AURORA_AT(learn.dropout), 0.0f,
             0.9f),
      number("--train-tap-noise", "noise on the taps while training, over their root mean square",
             AURORA_AT(learn.tap_noise), 0.0f, 10.0f),
      number("--train-decay", "weight decay of the matrices", AURORA_AT(learn.weight_decay), 0.0f,
             10.0f),
      number("--discard-lambda", "weight of the refused tokens' KL; 0: they are not learnt from",
             AURORA_AT(learn.discard_lambda), 0.0f, 100.0f),
      number("--discard-top-k", "most probable tokens of a refused row's law that count; 0: all",
             AURORA_AT(learn.discard_top_k), 0, 1024),
      number("--branch-versions-max",
             "refused tokens of drafts so many versions behind the newest still count",
             AURORA_AT(learn.branch_versions_max), int64_t{0}, int64_t{1} << 40),
  };
}

std::vector<Flag> loop_flags() {
  return {
      text("-m", "FILE", "the target model (GGUF)", AURORA_AT(model)),
      text("--state", "DIR", "holds traces/, drafts/, trainer.ckpt, trainer.json",
           AURORA_AT(state)),
      text("--buffer", "URL", "traces from nats://host:port/?... instead of DIR/traces",
           AURORA_AT(buffer)),
      text("--init", "target|random|FILE", "what the first draft starts from; FILE: a draft GGUF",
           AURORA_AT(init)),
      number("--draft-depth", "drafted tokens a step that the gate replays",
             AURORA_AT(loop.draft_depth), 1, 16),
      dtype_flag(),
      gate_flag(),
      number("--pays-above", "accept length above which the first draft serves",
             AURORA_AT(loop.gate_options.pays_above), 0.0, 100.0),
      number("--publish-first-records", "requests before the first offer",
             AURORA_AT(loop.publish_first_records), 1, 1 << 20),
      number("--publish-every-records", "requests between two offers",
             AURORA_AT(loop.publish_every_records), 1, 1 << 20),
      word_or_number("--train-threads", "auto|N", "auto: a thread for each core that is allowed",
                     AURORA_AT(threads), 0, 1, 256),
      word_or_number(
          "--train-memory-mib", "auto|N",
          "memory beside the libraries'; auto: 10 times the draft's and the window's, at "
          "least 1024",
          AURORA_AT(memory_mib), 0, 64, 1 << 30),
      word_or_number("--train-nice", "idle|N",
                     "idle: run while nothing else wants the core; or a nice value",
                     AURORA_AT(nice), kIdleClass, 0, 19),
      number("--train-steps", "test-time training steps K", AURORA_AT(learn.steps), 1, 16),
      number("--train-vocab", "tokens of the draft vocabulary", AURORA_AT(vocab), 16, 1 << 24),
      word_or_number("--train-mlp", "auto|N",
                     "width of a new draft's MLP, a multiple of 32; auto: 4/3 of the target's "
                     "width, or its MLP's if that is less",
                     AURORA_AT(mlp), 0, 32, 1 << 20),
      rate_flag("--train-lr", "learning rate of all weights; auto: by the target's width",
                {&LearnOptions::lr_fc, &LearnOptions::lr_head, &LearnOptions::lr_layer}),
      rate_flag("--train-lr-fc", "learning rate of fc", {&LearnOptions::lr_fc}),
      rate_flag("--train-lr-head", "learning rate of the head", {&LearnOptions::lr_head}),
      number("--train-passes", "passes over all requests, on average",
             AURORA_AT(loop.window.passes_mean), 0.01, 1e6),
      number("--train-reuse", "passes over one recent request at most",
             AURORA_AT(loop.window.passes_max), 1, 1 << 20),
      number("--train-columns", "supervised columns of one step", AURORA_AT(loop.columns_per_step),
             1, 1 << 20),
      number("--train-window", "recent requests kept", AURORA_AT(loop.window.recent_max), size_t{1},
             size_t{1} << 20),
      number("--train-window-mib", "memory of all requests kept", AURORA_AT(window_mib),
             uint64_t{1}, uint64_t{1} << 30),
      number("--train-segment",
             "served tokens of a piece that is trained at once; a longer answer is cut into such",
             AURORA_AT(loop.window.segments.tokens_max), 2, 1 << 22),
      number("--train-reservoir", "older requests kept against forgetting",
             AURORA_AT(loop.window.reservoir_max), size_t{0}, size_t{1} << 20),
      number("--train-holdout-every", "every n-th request is held out for the gate; 0: none",
             AURORA_AT(loop.window.holdout_every), size_t{0}, size_t{1} << 20),
      number("--train-seed", "seed of the order of samples", AURORA_AT(loop.seed), uint64_t{0},
             ~uint64_t{0}),
      bf16_flag(),
      number("--checkpoint-every", "seconds between two checkpoints",
             AURORA_AT(loop.checkpoint_every_s), 0.0, 1e9),
      number("--rank-timeout", "seconds that trainer ranks wait for each other",
             AURORA_AT(rank_timeout_s), 1.0, 86400.0),
      text("--train-audit", "FILE", "append every (step, record, pass), for tests",
           AURORA_AT(loop.audit_path)),
      {"--train-once", "", "leave when every trace has had its passes",
       [](TrainOptions& o, const std::string&) { return o.loop.once = true; },
       [](const TrainOptions&) { return ""; }},
      {"--help", "", "this text", [](TrainOptions& o, const std::string&) { return o.help = true; },
       [](const TrainOptions&) { return ""; }},
  };
}

const std::vector<Flag>& flags() {
  static const std::vector<Flag> table = [] {
    std::vector<Flag> all = loop_flags();
    const std::vector<Flag> of_loss = loss_flags();
    all.insert(all.end() - 1, of_loss.begin(), of_loss.end());  // --help stays the last
    return all;
  }();
  return table;
}

#undef AURORA_AT

const Flag* find_flag(const std::string& name) {
  const std::string wanted = name == "--model" ? "-m" : name == "-h" ? "--help" : name;
  for (const Flag& flag : flags())
    if (wanted == flag.name) return &flag;
  return nullptr;
}

}  // namespace

Result<TrainOptions> parse_train_options(const std::vector<std::string>& args) {
  TrainOptions options;
  for (size_t i = 0; i < args.size(); ++i) {
    const Flag* flag = find_flag(args[i]);
    if (!flag) return Status::invalid("unknown flag " + args[i] + "; --help lists them all");
    const bool takes_value = flag->value[0] != '\0';
    if (takes_value && i + 1 == args.size())
      return Status::invalid(args[i] + " needs a value (" + flag->value + ")");
    const std::string value = takes_value ? args[++i] : "";
    if (!flag->set(options, value))
      return Status::invalid("impossible value \"" + value + "\" of " + flag->name + " (" +
                             flag->value + ")");
  }
  if (options.model.empty() && !options.help)
    return Status::invalid("the target model is missing: give it by -m FILE.gguf");
  if (Status status = check_buffer_url(options.buffer); !status) return status;
  options.learn.bf16 = options.bf16 == "on" || (options.bf16 == "auto" && cpu_has_fast_bf16());
  options.loop.vocab_size = options.vocab;
  options.loop.window.bytes_max = options.window_mib << 20;
  options.learn.threads = std::max(1, options.threads);
  options.loop.window.segments.context_rows_max = options.learn.context_rows_max;
  options.learn.seed = options.loop.seed;
  options.loop.branches = options.learn.discard_lambda > 0;
  return options;
}

std::string train_help() {
  const TrainOptions defaults;
  std::string out =
      "aurora-train: trains a draft model on the traces of a running server.\n"
      "usage: aurora-train -m TARGET.gguf [flags]\n\n";
  for (const Flag& flag : flags()) {
    std::string line = std::string("  ") + flag.name + " " + flag.value;
    line.resize(std::max<size_t>(line.size() + 1, 34), ' ');
    line += flag.what;
    const std::string value = flag.show(defaults);
    if (!value.empty()) line += " [" + value + "]";
    out += line + "\n";
  }
  return out;
}

uint64_t memory_bytes_of(const TrainOptions& options, const DraftWeights& draft) {
  constexpr uint64_t kLeast = 1024ull << 20, kWeights = 10 * sizeof(float);
  if (options.memory_mib > 0) return static_cast<uint64_t>(options.memory_mib) << 20;
  return std::max(kLeast, kWeights * draft.weight_count() + options.loop.window.bytes_max);
}

uint64_t shared_checksum(const TrainOptions& options) {
  // Places and means of one machine.
  constexpr std::array<std::string_view, 8> kOwn = {
      "--train-memory-mib", "-m",           "--state",      "--buffer", "--init",
      "--train-threads",    "--train-nice", "--train-audit"};
  std::string all = options.loop.target;
  for (const Flag& flag : flags())
    if (std::find(kOwn.begin(), kOwn.end(), flag.name) == kOwn.end())
      all += std::string(flag.name) + "=" + flag.show(options) + "\n";
  all += options.loop.once ? "once" : "";
  return crc32c(std::as_bytes(std::span(all)));
}

}  // namespace aurora
