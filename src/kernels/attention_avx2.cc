// AVX2 + FMA + F16C. Nothing inline from the standard library here: the linker might give this
// file's copy to all.
#include <immintrin.h>

#include "kernels/attention.h"
#include "kernels/attention_kernels.h"

namespace aurora::attention {
namespace {

using Float = __m256;

Float all(float x) { return _mm256_set1_ps(x); }
int round_up(int count) { return (count + kLanes - 1) / kLanes * kLanes; }

template <bool Half>
inline Float load(const void* row, int index) {
  if constexpr (!Half) return _mm256_loadu_ps(static_cast<const float*>(row) + index);
  const void* at = static_cast<const uint16_t*>(row) + index;
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(at)));
}

inline Float larger(Float a, Float b) { return _mm256_max_ps(a, b); }  // a > b ? a : b

inline Float pow2(Float x) {
  const Float rounded = _mm256_add_ps(x, all(kExpRound));
  const Float f = _mm256_sub_ps(x, _mm256_sub_ps(rounded, all(kExpRound)));
  Float p = all(kExp6);
  p = _mm256_fmadd_ps(p, f, all(kExp5));
  p = _mm256_fmadd_ps(p, f, all(kExp4));
  p = _mm256_fmadd_ps(p, f, all(kExp3));
  p = _mm256_fmadd_ps(p, f, all(kExp2));
  p = _mm256_fmadd_ps(p, f, all(kExp1));
  p = _mm256_fmadd_ps(p, f, all(1.0f));
  const __m256i bits = _mm256_slli_epi32(_mm256_castps_si256(rounded), 23);
  const __m256i power = _mm256_add_epi32(bits, _mm256_set1_epi32(127 << 23));
  const Float kept = _mm256_cmp_ps(x, all(kExpLowest), _CMP_NLT_UQ);  // a NaN stays one
  return _mm256_and_ps(kept, _mm256_mul_ps(p, _mm256_castsi256_ps(power)));
}

// The sums of four vectors' lanes.
inline __m128 add_lanes(Float a, Float b, Float c, Float d) {
  const Float sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

inline float add_lanes(Float a) { return _mm_cvtss_f32(add_lanes(a, a, a, a)); }

template <int RowCount, int KeyCount, bool Half>
[[gnu::always_inline]] inline void score_tile(const ScoreArgs& args, int row, int key) {
  const int dim = args.dim;
  const float* queries = args.queries + static_cast<ptrdiff_t>(row) * dim;
  const void* const* keys = args.keys + key;
  Float sums[RowCount][KeyCount];
#pragma GCC unroll 8
  for (int r = 0; r < RowCount; ++r) {
#pragma GCC unroll 8
    for (int k = 0; k < KeyCount; ++k) sums[r][k] = _mm256_setzero_ps();
  }
  for (int d = 0; d < dim; d += kLanes) {
    Float query[RowCount];
#pragma GCC unroll 8
    for (int r = 0; r < RowCount; ++r) query[r] = _mm256_loadu_ps(queries + r * dim + d);
#pragma GCC unroll 8
    for (int k = 0; k < KeyCount; ++k) {
      const Float loaded = load<Half>(keys[k], d);
#pragma GCC unroll 8
      for (int r = 0; r < RowCount; ++r) sums[r][k] = _mm256_fmadd_ps(query[r], loaded, sums[r][k]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < RowCount; ++r) {
    float* out = args.scores + (row + r) * args.score_stride + key;
#pragma GCC unroll 8
    for (int k = 0; k < KeyCount; k += 4) {
      _mm_storeu_ps(out + k, add_lanes(sums[r][k], sums[r][k + 1], sums[r][k + 2], sums[r][k + 3]));
    }
  }
}

template <bool Half>
void score_rows(const ScoreArgs& args) {
  const int count = round_up(args.count);
  int row = 0;
  for (; row + 3 <= args.rows; row += 3) {
    for (int key = 0; key < count; key += 4) score_tile<3, 4, Half>(args, row, key);
  }
  if (args.rows - row == 2) {
    for (int key = 0; key < count; key += 4) score_tile<2, 4, Half>(args, row, key);
  } else if (args.rows - row == 1) {
    for (int key = 0; key < count; key += 8) score_tile<1, 8, Half>(args, row, key);
  }
}

void scores(const ScoreArgs& args) { args.half ? score_rows<true>(args) : score_rows<false>(args); }

void soften(float* scores, int count, float softcap) {
  const Float sign = all(-0.0f);
  for (int i = 0; i < count; i += kLanes) {
    const Float x = _mm256_loadu_ps(scores + i);
    const Float e = pow2(_mm256_mul_ps(_mm256_andnot_ps(sign, x), all(-2.0f * kLog2E)));
    const Float tanh = _mm256_div_ps(_mm256_sub_ps(all(1.0f), e), _mm256_add_ps(all(1.0f), e));
    const Float signed_tanh = _mm256_or_ps(tanh, _mm256_and_ps(sign, x));
    _mm256_storeu_ps(scores + i, _mm256_mul_ps(signed_tanh, all(softcap)));
  }
}

void weigh(float* scores, int count, Partial& partial) {
  const int padded = round_up(count);
  for (int i = count; i < padded; ++i) scores[i] = -__builtin_inff();
  Float maxima = all(-__builtin_inff());
  for (int i = 0; i < padded; i += kLanes) maxima = larger(maxima, _mm256_loadu_ps(scores + i));
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(maxima), _mm256_extractf128_ps(maxima, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  half = _mm_max_ss(half, _mm_movehdup_ps(half));
  const float max = _mm_cvtss_f32(half);
  Float sums = _mm256_setzero_ps();
  for (int i = 0; i < padded; i += kLanes) {
    const Float weights = pow2(_mm256_sub_ps(_mm256_loadu_ps(scores + i), all(max)));
    _mm256_storeu_ps(scores + i, weights);
    sums = _mm256_add_ps(sums, weights);
  }
  partial.max = max;
  partial.sum = add_lanes(sums);
}

// RowCount rows by VectorCount * 8 dimensions from `d` on.
template <int RowCount, int VectorCount, bool Half>
inline void value_tile(const ValueArgs& args, int d) {
  Float sums[RowCount][VectorCount];
#pragma GCC unroll 8
  for (int r = 0; r < RowCount; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < VectorCount; ++v)
      sums[r][v] = _mm256_loadu_ps(args.values[r] + d + v * kLanes);
  }
  for (int key = args.first; key < args.last; ++key) {
    const void* row = args.rows[key];
    Float weight[RowCount];
#pragma GCC unroll 8
    for (int r = 0; r < RowCount; ++r) weight[r] = _mm256_broadcast_ss(args.weights[r] + key);
#pragma GCC unroll 8
    for (int v = 0; v < VectorCount; ++v) {
      const Float loaded = load<Half>(row, d + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < RowCount; ++r)
        sums[r][v] = _mm256_fmadd_ps(weight[r], loaded, sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < RowCount; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < VectorCount; ++v)
      _mm256_storeu_ps(args.values[r] + d + v * kLanes, sums[r][v]);
  }
}

template <int RowCount, bool Half>
void value_rows(const ValueArgs& args) {
  int d = 0;
  if constexpr (RowCount == 1) {
    for (; d + 8 * kLanes <= args.dim; d += 8 * kLanes) value_tile<1, 8, Half>(args, d);
  }
  for (; d + 4 * kLanes <= args.dim; d += 4 * kLanes) value_tile<RowCount, 4, Half>(args, d);
  for (; d + 2 * kLanes <= args.dim; d += 2 * kLanes) value_tile<RowCount, 2, Half>(args, d);
  for (; d < args.dim; d += kLanes) value_tile<RowCount, 1, Half>(args, d);
}

void add_values(int rows, const ValueArgs& args) {
  if (rows == 3) return args.half ? value_rows<3, true>(args) : value_rows<3, false>(args);
  if (rows == 2) return args.half ? value_rows<2, true>(args) : value_rows<2, false>(args);
  args.half ? value_rows<1, true>(args) : value_rows<1, false>(args);
}

void merge(Partial& into, const Partial& later, int dim) {
  const float max = into.max > later.max ? into.max : later.max;
  const Float scale_into = pow2(all(into.max - max));
  const Float scale_later = pow2(all(later.max - max));
  const Float sum = _mm256_mul_ps(all(into.sum), scale_into);
  into.max = max;
  into.sum = _mm256_cvtss_f32(_mm256_fmadd_ps(all(later.sum), scale_later, sum));
  float* a = into.values();
  const float* b = later.values();
  for (int d = 0; d < dim; d += kLanes) {
    const Float scaled = _mm256_mul_ps(_mm256_loadu_ps(a + d), scale_into);
    _mm256_storeu_ps(a + d, _mm256_fmadd_ps(_mm256_loadu_ps(b + d), scale_later, scaled));
  }
}

void scale(const float* in, float factor, float* out, int dim) {
  for (int d = 0; d < dim; d += kLanes) {
    _mm256_storeu_ps(out + d, _mm256_mul_ps(_mm256_loadu_ps(in + d), all(factor)));
  }
}

void widen(const void** rows, int count, int dim, float* out) {
  for (int row = 0; row < count; ++row, out += dim) {
    const void* half = rows[row];
#pragma GCC unroll 4
    for (int d = 0; d < dim; d += kLanes) _mm256_storeu_ps(out + d, load<true>(half, d));
    rows[row] = out;
  }
}

constexpr AttentionKernels kKernels = {"avx2",     scores, soften, weigh,
                                       add_values, merge,  scale,  widen};

}  // namespace

const AttentionKernels* avx2_kernels() {
  const bool usable = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
  return usable ? &kKernels : nullptr;
}

}  // namespace aurora::attention
