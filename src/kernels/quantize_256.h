// Rounding of activations with 256-bit vectors; the same bits as quantize_block(). Include only in
// a backend's .cc file.
#pragma once

#include <immintrin.h>

#include "kernels/activations.h"

namespace aurora::kernels {
namespace {

inline float largest_absolute(const __m256* x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 most = _mm256_andnot_ps(sign, x[0]);
  for (int i = 1; i < 4; ++i) most = _mm256_max_ps(most, _mm256_andnot_ps(sign, x[i]));
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// x * 0 is a NaN where x is not finite.
inline bool all_finite(const __m256* x) {
  __m256 sum = _mm256_setzero_ps();
  for (int i = 0; i < 4; ++i) sum = _mm256_add_ps(sum, _mm256_mul_ps(x[i], _mm256_setzero_ps()));
  return _mm256_movemask_ps(_mm256_cmp_ps(sum, sum, _CMP_UNORD_Q)) == 0;
}

inline int32_t first_lane(__m128i x) { return _mm_cvtsi128_si32(x); }

// scaled_sum and start, as quantize_block() and set_start() have them: sums of 16 columns as pairs
// of int16, in every 32 bits of either half.
inline void set_sums(WeightType type, __m256i quants, ActivationBlock& block) {
  __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), quants);
  pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0x4e));
  pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0xb1));
  const __m128i first = _mm256_castsi256_si128(pairs), second = _mm256_extracti128_si256(pairs, 1);
  const __m128i both = _mm_add_epi16(first, second);
  const int32_t sum = first_lane(_mm_madd_epi16(both, _mm_set1_epi16(1)));
  block.scaled_sum = block.scale * static_cast<float>(sum);
  const Format format = format_of(type);
  const int offset = format.offset;
  block.start[0] = block.start[1] = 0;
  const __m128i minus = _mm_set1_epi16(static_cast<int16_t>(-offset));
  if (format.mins && format.halves) {
    const __m128i ones = _mm_set1_epi16(1);
    block.start[0] = half_sum_bits(block.scale, first_lane(_mm_madd_epi16(first, ones)));
    block.start[1] = half_sum_bits(block.scale, first_lane(_mm_madd_epi16(second, ones)));
  } else if (offset == 0) {
    return;
  } else if (format.signed_quants) {
    block.start[0] = -offset * sum;
  } else if (format.halves) {
    block.start[0] = first_lane(_mm_mullo_epi16(first, minus));
    block.start[1] = first_lane(_mm_mullo_epi16(second, minus));
  } else {
    block.start[0] = first_lane(_mm_mullo_epi16(both, minus));
  }
}

inline void quantize_block_256(WeightType type, const float* values, ActivationBlock& block) {
  __m256 x[4];
  for (int i = 0; i < 4; ++i) x[i] = _mm256_loadu_ps(values + 8 * i);
  const float largest = largest_absolute(x);
  // The plain version says what happens to what is not finite, and to values so small that 127 /
  // largest is not.
  if (!all_finite(x) || (largest > 0 && largest < 1e-36f)) {
    quantize_block(values, block);
    set_start(type, block);
    return;
  }
  block.scale = largest / 127.0f;
  const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
  __m256i q[4];
  for (int i = 0; i < 4; ++i) {
    const __m256 scaled = _mm256_mul_ps(x[i], inverse);
    q[i] =
        _mm256_cvtps_epi32(_mm256_round_ps(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  const __m256i bytes =
      _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  const __m256i ordered =
      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(block.quants), ordered);
  set_sums(type, ordered, block);
}

inline void quantize_256(WeightType type, const float* values, int64_t first, int64_t last,
                         int tokens, ActivationBlock* slots) {
  for (int64_t b = first; b < last; ++b) {
    quantize_block_256(type, values + b * kBlock, slots[b * tokens]);
  }
}

}  // namespace
}  // namespace aurora::kernels
