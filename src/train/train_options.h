// Flags of aurora-train. Each default is set here, once. No LibTorch behind it: `aurora serve`
// hands such flags on and refuses what the trainer would.
#pragma once

#include <string>
#include <vector>

#include "base/background.h"
#include "base/flags.h"
#include "base/status.h"
#include "draft/draft_file.h"
#include "train/learner.h"
#include "train/train_loop.h"

namespace aurora {

struct TrainOptions {
  std::string model;             // target GGUF
  std::string state = "aurora";  // traces/, drafts/, trainer.ckpt, trainer.status
  std::string buffer;            // nats://...; empty: LMDB in state
  std::string init = "target";   // target, random, or a draft GGUF
  DraftDtype dtype = DraftDtype::kQ8_0;
  int vocab = 4096;
  int mlp = 0;  // width of a new draft's MLP; 0: auto
  uint64_t window_mib = 512;
  int nice = kIdleClass;
  int memory_mib = 0;  // 0: memory_bytes_of()
  int threads = 0;     // 0: threads_of_machine()
  enum class Bf16 { kAuto, kOn, kOff } bf16 = Bf16::kAuto;
  double rank_timeout_s = 120;  // how long trainer ranks wait for each other
  LearnOptions learn;
  TrainLoopOptions loop;
  bool help = false;
};

// invalid: an unknown flag, a missing or impossible value; one sentence that names it.
Result<TrainOptions> parse_train_options(const std::vector<std::string>& args);
// Behind `aurora train` or aurora-train.
CommandLine train_command(TrainOptions& options, const std::string& name = "aurora train");
std::string train_help();
// Bound on what the trainer takes beside its libraries: as given, else ten times the fp32 weights
// (the weights, their mean, two moments, gradients, and as much again for a step and a checkpoint)
// and the window.
uint64_t memory_bytes_of(const TrainOptions& options, const DraftWeights& draft);
// Of everything that all trainer ranks must be given alike; loop.target is set.
uint64_t shared_checksum(const TrainOptions& options);

}  // namespace aurora
