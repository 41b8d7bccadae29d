#include "train/train_options.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "base/crc32c.h"
#include "nats/nats_url.h"

namespace aurora {
namespace {

// Whether this CPU multiplies bf16 faster than fp32.
bool cpu_has_fast_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

// Of one group of weights, or of several.
Flag rate_flag(const char* name, const char* what, std::vector<float*> groups) {
  const float rate = *groups.back();
  return {name,
          "X|auto",
          what,
          "auto or a number from 0 to 1",
          "",
          rate == LearnOptions::kDefaultRate ? "auto" : shown_number(rate),
          [groups](const std::string& v) {
            float given = LearnOptions::kDefaultRate;
            if (v != "auto" && !parse_number(v, 0.0f, 1.0f, given)) return false;
            for (float* group : groups) *group = given;
            return true;
          }};
}

std::vector<Flag> loss_flags(LearnOptions& o) {
  return {
      choice_flag("--objective", "loss of the rows of accepted text", o.objective,
                  {{"forward-kl", ObjectiveKind::kForwardKl},
                   {"reverse-kl", ObjectiveKind::kReverseKl},
                   {"cross-entropy", ObjectiveKind::kCrossEntropy},
                   {"accept-len", ObjectiveKind::kAcceptLen},
                   {"accept-len-greedy", ObjectiveKind::kAcceptLenGreedy},
                   {"overlap-nla", ObjectiveKind::kOverlapNla},
                   {"overlap-blend", ObjectiveKind::kOverlapBlend}}),
      choice_flag("--step-weights",
                  "decay: step k weighs 0.8^k; reach: and by the chance that serving gets to it",
                  o.reach_weights, {{"decay", false}, {"reach", true}}),
      number_flag("--train-unreached",
                  "share of the rows that train a further step where serving would have stopped",
                  o.unreached_share, 0, 1),
      number_flag("--train-prompt-rows", "last tokens of a prompt that are learnt from too",
                  o.prompt_rows_max, 0, 1 << 20),
      number_flag("--train-prompt-weight", "weight of a prompt token's row", o.prompt_weight, 0, 1),
      number_flag("--train-average", "updates whose mean serves; 0: the last weights",
                  o.average_updates, 0, 1 << 20),
      number_flag("--train-warmup", "updates over which the rates rise", o.warmup_updates, 0,
                  1 << 20),
      number_flag("--train-beta1", "of AdamW", o.beta1, 0, 0.9999f),
      number_flag("--train-beta2", "of AdamW", o.beta2, 0, 0.9999f),
      number_flag("--train-dropout", "of hidden units while training", o.dropout, 0, 0.9f),
      number_flag("--train-tap-noise",
                  "noise on the taps while training, over their root mean square", o.tap_noise, 0,
                  10),
      number_flag("--train-decay", "weight decay of the matrices", o.weight_decay, 0, 10),
      number_flag("--discard-lambda",
                  "weight of the refused tokens' KL; 0: they are not learnt from", o.discard_lambda,
                  0, 100),
      number_flag("--discard-top-k",
                  "most probable tokens of a refused row's law that count; 0: all", o.discard_top_k,
                  0, 1024),
      number_flag("--branch-versions-max",
                  "refused tokens of drafts so many versions behind the newest still count",
                  o.branch_versions_max, 0, int64_t{1} << 40),
  };
}

std::vector<Flag> draft_flags(TrainOptions& o) {
  return {
      text_flag("-m, --model", "FILE", "the target model (GGUF)", o.model),
      text_flag("--state", "DIR", "holds traces/, drafts/, trainer.ckpt, trainer.status", o.state),
      text_flag("--buffer", "URL", "traces from nats://host:port/?... instead of DIR/traces",
                o.buffer),
      text_flag("--init", "target|random|FILE",
                "what the first draft starts from; FILE: a draft GGUF", o.init),
      number_flag("--draft-depth", "drafted tokens a step that the gate replays",
                  o.loop.draft_depth, 1, 16),
      choice_flag(
          "--draft-dtype", "type of a published draft's matrices", o.dtype,
          {{"q8_0", DraftDtype::kQ8_0}, {"f16", DraftDtype::kF16}, {"f32", DraftDtype::kF32}}),
      choice_flag("--gate",
                  "replay: publish when better on held-out requests; off: whenever a draft is due",
                  o.loop.gate, {{"replay", true}, {"off", false}}),
      number_flag("--pays-above", "accept length above which the first draft serves",
                  o.loop.gate_options.pays_above, 0, 100),
      number_flag("--publish-first-records", "requests before the first offer",
                  o.loop.publish_first_records, 1, 1 << 20),
      number_flag("--publish-every-records", "requests between two offers",
                  o.loop.publish_every_records, 1, 1 << 20),
      number_flag("--train-vocab", "tokens of the draft vocabulary", o.vocab, 16, 1 << 24),
      word_or_number_flag(
          "--train-mlp", "auto", 0,
          "width of a new draft's MLP, a multiple of 32; auto: 4/3 of the target's width, or its "
          "MLP's if that is less",
          o.mlp, 32, 1 << 20),
  };
}

std::vector<Flag> machine_flags(TrainOptions& o) {
  return {
      word_or_number_flag("--train-threads", "auto", 0,
                          "auto: a thread for each core that is allowed", o.threads, 1, 256),
      word_or_number_flag("--train-memory-mib", "auto", 0,
                          "memory beside the libraries'; auto: 10 times the draft's and the "
                          "window's, at least 1024",
                          o.memory_mib, 64, 1 << 30),
      word_or_number_flag("--train-nice", "idle", kIdleClass,
                          "idle: run while nothing else wants the core; or a nice value", o.nice, 0,
                          19),
      choice_flag("--train-bf16", "bf16 products; auto: where the CPU has instructions for them",
                  o.bf16,
                  {{"auto", TrainOptions::Bf16::kAuto},
                   {"on", TrainOptions::Bf16::kOn},
                   {"off", TrainOptions::Bf16::kOff}}),
      number_flag("--checkpoint-every", "seconds between two checkpoints",
                  o.loop.checkpoint_every_s, 0, 1e9),
      number_flag("--rank-timeout", "seconds that trainer ranks wait for each other",
                  o.rank_timeout_s, 1, 86400),
      text_flag("--train-audit", "FILE", "append every (step, record, pass), for tests",
                o.loop.audit_path),
      switch_flag("--train-once", "leave when every trace has had its passes", o.loop.once),
  };
}

std::vector<Flag> loop_flags(TrainOptions& o) {
  LearnOptions& learn = o.learn;
  WindowOptions& window = o.loop.window;
  return {
      number_flag("--train-steps", "test-time training steps K", learn.steps, 1, 16),
      rate_flag("--train-lr", "learning rate of all weights; auto: by the target's width",
                {&learn.lr_fc, &learn.lr_head, &learn.lr_layer}),
      rate_flag("--train-lr-fc", "learning rate of fc", {&learn.lr_fc}),
      rate_flag("--train-lr-head", "learning rate of the head", {&learn.lr_head}),
      number_flag("--train-passes", "passes over all requests, on average", window.passes_mean,
                  0.01, 1e6),
      number_flag("--train-reuse", "passes over one recent request at most", window.passes_max, 1,
                  1 << 20),
      number_flag("--train-columns", "supervised columns of one step", o.loop.columns_per_step, 1,
                  1 << 20),
      number_flag("--train-window", "recent requests kept", window.recent_max, 1, 1 << 20),
      number_flag("--train-window-mib", "memory of all requests kept", o.window_mib, 1, 1 << 30),
      number_flag("--train-segment",
                  "served tokens of a piece that is trained at once; a longer answer is cut into "
                  "such",
                  window.segments.tokens_max, 2, 1 << 22),
      number_flag("--train-reservoir", "older requests kept against forgetting",
                  window.reservoir_max, 0, 1 << 20),
      number_flag("--train-holdout-every", "every n-th request is held out for the gate; 0: none",
                  window.holdout_every, 0, 1 << 20),
      number_flag("--train-seed", "seed of the order of samples", o.loop.seed, 0, ~uint64_t{0}),
  };
}

}  // namespace

CommandLine train_command(TrainOptions& options, const std::string& name) {
  CommandLine line = {name,
                      "-m TARGET.gguf [flags]",
                      "Trains a draft model on the traces of a running server.",
                      {}};
  for (auto& part : {draft_flags(options),
                     machine_flags(options),
                     loop_flags(options),
                     loss_flags(options.learn),
                     {help_flag(options.help)}})
    line.flags.insert(line.flags.end(), part.begin(), part.end());
  return line;
}

Result<TrainOptions> parse_train_options(const std::vector<std::string>& args) {
  TrainOptions options;
  if (Status s = parse_flags(train_command(options), args); !s) return s;
  if (options.model.empty() && !options.help)
    return Status::invalid("the target model is missing: give it by -m FILE.gguf");
  if (Status status = check_buffer_url(options.buffer); !status) return status;
  using Bf16 = TrainOptions::Bf16;
  options.learn.bf16 =
      options.bf16 == Bf16::kOn || (options.bf16 == Bf16::kAuto && cpu_has_fast_bf16());
  options.loop.vocab_size = options.vocab;
  options.loop.window.bytes_max = options.window_mib << 20;
  options.learn.threads = std::max(1, options.threads);
  options.loop.window.segments.context_rows_max = options.learn.context_rows_max;
  options.learn.seed = options.loop.seed;
  options.loop.branches = options.learn.discard_lambda > 0;
  return options;
}

std::string train_help() {
  TrainOptions defaults;
  return help_of(train_command(defaults));
}

uint64_t memory_bytes_of(const TrainOptions& options, const DraftWeights& draft) {
  constexpr uint64_t kLeast = 1024ull << 20, kWeights = 10 * sizeof(float);
  if (options.memory_mib > 0) return static_cast<uint64_t>(options.memory_mib) << 20;
  return std::max(kLeast, kWeights * draft.weight_count() + options.loop.window.bytes_max);
}

uint64_t shared_checksum(const TrainOptions& options) {
  // Places and means of one machine.
  constexpr std::array<std::string_view, 8> kOwn = {
      "--train-memory-mib", "-m, --model",  "--state",      "--buffer", "--init",
      "--train-threads",    "--train-nice", "--train-audit"};
  TrainOptions given = options;
  std::string all = options.loop.target;
  for (const Flag& flag : train_command(given).flags)
    if (std::find(kOwn.begin(), kOwn.end(), flag.names) == kOwn.end())
      all += flag.names + "=" + flag.otherwise + "\n";
  all += options.loop.once ? "once" : "";
  return crc32c(std::as_bytes(std::span(all)));
}

}  // namespace aurora
