#include "kernels/activations.h"

#include <algorithm>
#include <cmath>

namespace aurora::kernels {
namespace {

// (column mod 4 is 0 or 1, column mod 4 is 2 or 3) of 16 columns.
struct PairSums {
  int32_t low = 0, high = 0;
};

PairSums pair_sums(const int8_t* quants) {
  PairSums sums;
  for (int i = 0; i < kBlock / 2; i += 4) {
    sums.low += quants[i] + quants[i + 1];
    sums.high += quants[i + 2] + quants[i + 3];
  }
  return sums;
}

int32_t packed_pair(int32_t low, int32_t high) {
  return static_cast<int32_t>((static_cast<uint32_t>(low) & 0xffffu) |
                              (static_cast<uint32_t>(high) << 16));
}

}  // namespace

void set_start(WeightType type, ActivationBlock& block) {
  const Format format = format_of(type);
  const int offset = format.offset;
  block.start[0] = block.start[1] = 0;
  const PairSums first = pair_sums(block.quants);
  const PairSums second = pair_sums(block.quants + kBlock / 2);
  if (format.mins && format.halves) {
    block.start[0] = half_sum_bits(block.scale, first.low + first.high);
    block.start[1] = half_sum_bits(block.scale, second.low + second.high);
  } else if (offset == 0) {
    return;
  } else if (format.signed_quants) {
    block.start[0] = -offset * (first.low + first.high + second.low + second.high);
  } else if (format.halves) {
    block.start[0] = packed_pair(-offset * first.low, -offset * first.high);
    block.start[1] = packed_pair(-offset * second.low, -offset * second.high);
  } else {
    block.start[0] =
        packed_pair(-offset * (first.low + second.low), -offset * (first.high + second.high));
  }
}

void quantize_block(const float* values, ActivationBlock& block) {
  float largest = 0;
  bool finite = true;
  for (int i = 0; i < kBlock; ++i) {
    largest = std::max(largest, std::fabs(values[i]));
    finite = finite && std::isfinite(values[i]);
  }
  if (!finite) largest = NAN;
  block.scale = largest / 127.0f;
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;  // 0 for a NaN
  int sum = 0;
  for (int i = 0; i < kBlock; ++i) {
    const float scaled = finite ? values[i] * inverse : 0.0f;
    // A tiny `largest` makes the inverse infinite: then 0 * inf is a NaN, and the bounds catch it.
    const float bounded =
        scaled >= -127.0f ? std::min(scaled, 127.0f) : (scaled < 0 ? -127.0f : 0.0f);
    block.quants[i] = static_cast<int8_t>(std::nearbyintf(bounded));
    sum += block.quants[i];
  }
  block.scaled_sum = block.scale * static_cast<float>(sum);
}

}  // namespace aurora::kernels
