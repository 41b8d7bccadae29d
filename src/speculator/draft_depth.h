// How many tokens to draft in a step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>

namespace aurora {

// Engine thread.
class DraftDepth {
 public:
  // seed 0: always `most`. Else drawn evenly from 1 to `most` for every draft, to try verify
  // batches of every size.
  DraftDepth(int32_t most, uint32_t seed) : most_(most), drawn_(seed != 0), random_(seed) {}

  // wanted > 0: the request's own bound.
  int32_t next(int32_t wanted) {
    const int32_t bound = wanted > 0 ? std::min(most_, wanted) : most_;
    if (!drawn_ || bound <= 1) return bound;
    return std::uniform_int_distribution<int32_t>(1, bound)(random_);
  }

 private:
  int32_t most_;
  bool drawn_;
  std::mt19937 random_;
};

}  // namespace aurora
