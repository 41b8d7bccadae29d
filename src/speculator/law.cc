#include "speculator/law.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace aurora {
namespace {

constexpr size_t kBlock = 64;

// exp(x) for x <= 0 to about 2e-7 relative: 2^n by the exponent bits, a degree-6 polynomial on
// [-ln2/2, ln2/2]. Written out so that the compiler vectorises the loop around it; the library's
// expf is not inlined.
inline float exp_nonpositive(float x) {
  const float clamped = x < -87.0f ? -87.0f : x;
  const float scaled = clamped * 1.44269504f;
  const int n = static_cast<int>(scaled - 0.5f);
  const float r = clamped - static_cast<float>(n) * 0.693147181f;
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return x < -87.0f ? 0.0f : p * std::bit_cast<float>((n + 127) << 23);
}

float block_maximum(const float* values, size_t count) {
  float lanes[8];
  std::fill_n(lanes, 8, -std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) {
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
    }
  }
  for (; i < count; ++i) lanes[0] = values[i] > lanes[0] ? values[i] : lanes[0];
  return *std::max_element(lanes, lanes + 8);
}

// Sixteen running sums: enough for the compiler's vectors, and the order of additions is fixed.
double sum_exp(std::span<const float> logits, float maximum) {
  double total = 0;
  for (size_t begin = 0; begin < logits.size(); begin += 4096) {
    const size_t count = std::min<size_t>(4096, logits.size() - begin);
    const float* values = logits.data() + begin;
    float lanes[16] = {};
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
      for (size_t lane = 0; lane < 16; ++lane)
        lanes[lane] += exp_nonpositive(values[i + lane] - maximum);
    }
    for (; i < count; ++i) lanes[0] += exp_nonpositive(values[i] - maximum);
    for (const float lane : lanes) total += lane;
  }
  return total;
}

}  // namespace

void top_law(std::span<const float> logits, std::span<int32_t> ids, std::span<float> logprobs,
             LawScratch& scratch) {
  const size_t k = ids.size();
  CHECK(k > 0 && k <= logits.size() && logprobs.size() == k);
  const size_t blocks = (logits.size() + kBlock - 1) / kBlock;
  scratch.block_max.resize(blocks);
  for (size_t b = 0; b < blocks; ++b) {
    scratch.block_max[b] =
        block_maximum(logits.data() + b * kBlock, std::min(kBlock, logits.size() - b * kBlock));
  }
  const float maximum = *std::max_element(scratch.block_max.begin(), scratch.block_max.end());
  const double log_normaliser = maximum + std::log(sum_exp(logits, maximum));

  // The k-th largest block maximum bounds the k-th largest logit from below: only blocks that reach
  // it matter.
  float threshold = -std::numeric_limits<float>::infinity();
  if (blocks > k) {
    scratch.sorted = scratch.block_max;
    const auto kth = scratch.sorted.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(scratch.sorted.begin(), kth, scratch.sorted.end(), std::greater<>());
    threshold = *kth;
  }
  scratch.candidates.clear();
  for (size_t b = 0; b < blocks; ++b) {
    if (scratch.block_max[b] < threshold) continue;
    const size_t end = std::min(logits.size(), (b + 1) * kBlock);
    for (size_t i = b * kBlock; i < end; ++i) {
      if (logits[i] >= threshold) scratch.candidates.push_back(static_cast<int32_t>(i));
    }
  }
  const auto more_probable = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const auto middle = scratch.candidates.begin() + static_cast<std::ptrdiff_t>(k);
  std::partial_sort(scratch.candidates.begin(), middle, scratch.candidates.end(), more_probable);
  for (size_t i = 0; i < k; ++i) {
    ids[i] = scratch.candidates[i];
    logprobs[i] = static_cast<float>(logits[static_cast<size_t>(ids[i])] - log_normaliser);
  }
}

TopToken top_token(std::span<const float> logits) {
  CHECK(!logits.empty());
  size_t best = 0;
  float maximum = -std::numeric_limits<float>::infinity();
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const size_t count = std::min(kBlock, logits.size() - begin);
    const float block = block_maximum(logits.data() + begin, count);
    if (block <= maximum) continue;
    maximum = block;
    const float* first = logits.data() + begin;
    best = begin + static_cast<size_t>(std::find(first, first + count, block) - first);
  }
  return {static_cast<int32_t>(best), static_cast<float>(1.0 / sum_exp(logits, maximum))};
}

}  // namespace aurora
