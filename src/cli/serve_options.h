// Flags of `aurora serve` that are ours; everything else goes to llama-server's own parser
// unchanged.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/flags.h"
#include "base/status.h"

namespace aurora {

struct ServeOptions {
  std::string model;  // from -m, --model or LLAMA_ARG_MODEL
  std::string state;  // traces, drafts, checkpoint; default: default_state()
  bool capture = true;
  double capture_rate = 1;  // share of requests that leave a trace
  enum class Train { kAuto, kOn, kOff } train = Train::kAuto;
  bool gate = true;
  bool kernels = true;         // our matrix products, where this CPU has a fast backend for them
  bool deterministic = false;  // start only where greedy text cannot depend on what was drafted
  int32_t draft_depth = 0;     // most tokens of a draft; 0: auto
  enum class Arms { kAll, kChain, kNgram, kNone } arms = Arms::kAll;
  float draft_prob_min = 0;
  uint32_t depth_seed = 0;
  std::string buffer;  // nats://...: traces of many servers; empty: LMDB in state
  int64_t buffer_mib = 2048;
  int64_t expires_in_s = 0;
  double train_share = 0.25;  // of the time with a core lent to the trainer while requests run
  int32_t rollouts = 0;       // answers to each recorded prompt, made while idle; see rollouts.h
  std::vector<std::string> server_args;   // for llama-server, without program name
  std::vector<std::string> trainer_args;  // flags of aurora train, for the trainer beside it
  bool help = false;
  bool prints = false;  // a flag of llama-server's that prints and exits

  // auto: the draft service decides, up to its bound; without the gate it would always draft so
  // deep.
  int32_t draft_depth_max() const { return draft_depth > 0 ? draft_depth : gate ? 16 : 3; }
  // The depth at which the trainer's gate compares drafts.
  int32_t replay_depth() const { return draft_depth > 0 ? draft_depth : 3; }
  // auto: where the traces stay here; those of many servers have a trainer elsewhere.
  bool trains() const {
    return capture && (train == Train::kOn || (train == Train::kAuto && buffer.empty()));
  }
};

// invalid: one sentence that says what to do.
Result<ServeOptions> parse_serve_options(const std::vector<std::string>& args);
CommandLine serve_command(ServeOptions& options);
std::string serve_help();

}  // namespace aurora
