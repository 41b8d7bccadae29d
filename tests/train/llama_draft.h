// Runs a draft GGUF inside llama.cpp as the server drafts with it: fc over the taps of each row,
// (token, g) pairs into the draft's KV cache, then step by step. The server's half of the parity
// test with the trainer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

// Not thread-safe.
class LlamaDraft {
 public:
  struct Options {
    int threads = 1;
    int context = 512;
    bool kv_f32 =
        false;  // the server's draft KV is fp16; fp32 leaves only the order of additions to differ
  };
  // Loads both models: the draft takes its token embedding from the target.
  static Result<std::unique_ptr<LlamaDraft>> open(const std::string& target_path,
                                                  const std::string& draft_path,
                                                  const Options& options);
  ~LlamaDraft();

  int hidden() const;
  const std::vector<int64_t>& d2t() const;

  // The target over x_0 ... x_{n-1}, at the draft's tap layers.
  struct TargetRows {
    std::vector<float> taps;    // [n, 3, D]
    std::vector<float> logits;  // [n, target vocabulary]
  };
  Result<TargetRows> run_target(std::span<const int32_t> tokens);

  struct Steps {
    std::vector<std::vector<float>> logits;  // [K][draft vocabulary], in d2t order
    std::vector<std::vector<float>> states;  // [K][D]: pre-norm output, the next step's g
    std::vector<int32_t> tokens;  // [K] embedded by each step; tokens[0] = x_{position+1}
  };
  // Draft steps 0 ... K-1 at row `position`. taps: rows 0 ... position at least; tokens: x_0 ...
  // x_{position+1} at least. forced: the tokens that steps 1 ... K-1 embed; empty: each step embeds
  // the argmax of the one before.
  Result<Steps> draft(std::span<const float> taps, std::span<const int32_t> tokens, int position,
                      int steps, std::span<const int32_t> forced = {});

 private:
  struct Impl;
  explicit LlamaDraft(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace aurora
