// The target's law of one position, from its logits: top k with true log-probabilities. One
// vectorised pass for the maximum, one for the normaliser, and a scan of the few blocks that can
// hold a top-k entry.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace aurora {

// Reused between calls so that the decode thread never allocates here.
struct LawScratch {
  std::vector<float> block_max;
  std::vector<float> sorted;
  std::vector<int32_t> candidates;
};

// ids and logprobs get k = ids.size() entries by falling probability (ties: lower id first). logits
// may hold -inf (impossible tokens). False, and nothing written: there are no k finite numbers
// among the logits, or one is +inf, so that they are no law. Cost: about 25 us for 49k logits.
[[nodiscard]] bool top_law(std::span<const float> logits, std::span<int32_t> ids,
                           std::span<float> logprobs, LawScratch& scratch);

struct TopToken {
  int32_t id = 0;
  float prob = 0;
};
// The most probable token and its probability, 0 where the logits are no law.
TopToken top_token(std::span<const float> logits);

}  // namespace aurora
