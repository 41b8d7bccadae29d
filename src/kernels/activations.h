// The other side of the product: activations rounded to eight bits, 32 at a time, and laid out as
// the tiles read them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/format.h"

namespace aurora::kernels {

// 32 activations of one token. value[i] = scale * quants[i] + rounding error.
struct ActivationBlock {
  int8_t quants[kBlock];
  float scale;       // largest absolute value / 127
  float scaled_sum;  // scale * sum of quants, for types with mins
  // What the accumulators start from, -offset * sum of quants, for columns 0..15 and 16..31 (see
  // set_start()).
  int32_t start[2];

  // Of 16 columns, for types with a min for each.
  float half_sum(int half) const { return std::bit_cast<float>(start[half]); }
};

// Tokens go in tiles of kTileTokens (the last one may be smaller). Within a tile of t tokens block
// b of token i is at [b * t + i]: one pointer walks through everything a step reads. Float types:
// the same with a float for each column in the place of a block. tile_begin(): where a tile begins,
// in blocks or floats.
inline int64_t tile_begin(int64_t tile, int64_t per_token) {
  return tile * kTileTokens * per_token;
}

// The start value of 16 columns. For unsigned quants it is a pair of int16: columns whose number
// mod 4 is 0 or 1 in the low half, 2 or 3 in the high half, because the AVX2 path sums such pairs
// in 16 bits; where a block has one scale start[0] covers all 32 columns. For signed quants
// start[0] is one int32 for all 32 columns. Q2_K has no offset and two mins: half_sum(), scale *
// sum of quants.
void set_start(WeightType type, ActivationBlock& block);

// What half_sum() reads.
inline int32_t half_sum_bits(float scale, int32_t sum) {
  return std::bit_cast<int32_t>(scale * static_cast<float>(sum));
}

// Rounds to nearest even. `values` are 32 floats; a NaN or an infinity among them makes the scale
// so.
void quantize_block(const float* values, ActivationBlock& block);

}  // namespace aurora::kernels
