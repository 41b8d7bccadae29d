// Flags of `aurora-train prequential`, which `aurora bench learn` hands on. No LibTorch behind it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/train_options.h"

namespace aurora {

struct PrequentialOptions {
  TrainOptions train;                  // the recipe
  std::vector<std::string> trace_dbs;  // folders of trace buffers, one behind the other; only read
  std::vector<std::string> domains;    // in this order, one behind the other; empty: as recorded
  size_t domain_requests_max = 1u << 30;  // of each
  std::string json;                       // figures, rewritten after every window
  std::vector<int> depths = {4};          // draft lengths scored, rising
  int64_t tokens_max = 0;                 // served tokens of the stream; 0: all
  int group_requests = 8;                 // between two swaps
  int window_requests = 50;               // of one figure
  double passes = 8;                      // trained columns for each column, rollouts' too
  bool freeze_at_shift = false;  // where the domain changes, go on scoring the draft of that moment
  int64_t offline_tokens = 0;    // above 0: train on so many tokens first, then score the rest with
                                 // that draft and train no more
  size_t seen_requests = 0;  // at every window score the first so many again, long trained on: how
                             // far the draft is from what it could learn by heart
};

// All but --json, which `aurora bench learn` says itself.
std::vector<Flag> prequential_flags(PrequentialOptions& options);

// Flags before `--`, the recipe behind it. invalid: one sentence.
Result<PrequentialOptions> parse_prequential_options(const std::vector<std::string>& args);

}  // namespace aurora
