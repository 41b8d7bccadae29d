#include "speculator/law.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "base/check.h"

namespace aurora {
namespace {

constexpr size_t kBlock = 64;

// The compilers' vector types: the auto-vectoriser gives up on the loop around a polynomial exp.
constexpr size_t kLanes = 8;
using Floats = float __attribute__((vector_size(kLanes * sizeof(float))));
using Ints = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));

inline Floats load(const float* values) {
  Floats loaded;
  std::memcpy(&loaded, values, sizeof loaded);
  return loaded;
}

// exp(x) for x <= 0 to about 2e-7 relative: 2^n by the exponent bits, a degree-6 polynomial on
// [-ln2/2, ln2/2]. Below -87 the result is not exactly 0 but 1e-38.
inline Floats exp_nonpositive(Floats x) {
  const Floats clamped = x > -87.0f ? x : Floats{} - 87.0f;
  const Floats scaled = clamped * 1.44269504f - 0.5f;
  const Ints n = __builtin_convertvector(scaled, Ints);
  const Floats r = clamped - __builtin_convertvector(n, Floats) * 0.693147181f;
  Floats p = r * (1.0f / 720.0f) + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<Floats>((n + 127) << 23);
}

float block_maximum(const float* values, size_t count) {
  Floats best = Floats{} - std::numeric_limits<float>::infinity();
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Floats loaded = load(values + i);
    best = loaded > best ? loaded : best;
  }
  float maximum = best[0];
  for (size_t lane = 1; lane < kLanes; ++lane) maximum = std::max(maximum, best[lane]);
  for (; i < count; ++i) maximum = std::max(maximum, values[i]);
  return maximum;
}

// The order of additions is fixed: the same logits give the same bits.
double sum_exp(std::span<const float> logits, float maximum) {
  double total = 0;
  for (size_t begin = 0; begin < logits.size(); begin += 4096) {
    const size_t count = std::min<size_t>(4096, logits.size() - begin);
    const float* values = logits.data() + begin;
    Floats even{}, odd{};
    size_t i = 0;
    for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
      even += exp_nonpositive(load(values + i) - maximum);
      odd += exp_nonpositive(load(values + i + kLanes) - maximum);
    }
    for (; i < count; ++i) total += std::exp(double{values[i]} - double{maximum});
    even += odd;
    for (size_t lane = 0; lane < kLanes; ++lane) total += double{even[lane]};
  }
  return total;
}

}  // namespace

bool top_law(std::span<const float> logits, std::span<int32_t> ids, std::span<float> logprobs,
             LawScratch& scratch) {
  const size_t k = ids.size();
  CHECK(k > 0 && logprobs.size() == k);
  if (k > logits.size()) return false;
  const size_t blocks = (logits.size() + kBlock - 1) / kBlock;
  scratch.block_max.resize(blocks);
  for (size_t b = 0; b < blocks; ++b) {
    scratch.block_max[b] =
        block_maximum(logits.data() + b * kBlock, std::min(kBlock, logits.size() - b * kBlock));
  }
  const float maximum = *std::max_element(scratch.block_max.begin(), scratch.block_max.end());
  if (!std::isfinite(maximum)) return false;
  const double log_normaliser = maximum + std::log(sum_exp(logits, maximum));
  if (!std::isfinite(log_normaliser)) return false;

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
  if (scratch.candidates.size() < k) return false;  // the others are NaN
  const auto more_probable = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const auto middle = scratch.candidates.begin() + static_cast<std::ptrdiff_t>(k);
  std::partial_sort(scratch.candidates.begin(), middle, scratch.candidates.end(), more_probable);
  const auto last = static_cast<size_t>(scratch.candidates[k - 1]);
  if (!std::isfinite(logits[last])) return false;  // fewer than k possible tokens
  for (size_t i = 0; i < k; ++i) {
    ids[i] = scratch.candidates[i];
    logprobs[i] = static_cast<float>(logits[static_cast<size_t>(ids[i])] - log_normaliser);
  }
  return true;
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
  const double prob = std::isfinite(maximum) ? 1.0 / sum_exp(logits, maximum) : 0.0;
  return {static_cast<int32_t>(best), std::isfinite(prob) ? static_cast<float>(prob) : 0.0f};
}

}  // namespace aurora
