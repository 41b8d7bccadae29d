#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/attention.h"
#include "kernels/attention_kernels.h"
#include "kernels/half.h"

namespace aurora::attention {
namespace {

float pow2(float x) {
  if (x < kExpLowest) return 0.0f;
  const float rounded = x + kExpRound;
  const float f = x - (rounded - kExpRound);
  float p = kExp6;
  p = std::fma(p, f, kExp5);
  p = std::fma(p, f, kExp4);
  p = std::fma(p, f, kExp3);
  p = std::fma(p, f, kExp2);
  p = std::fma(p, f, kExp1);
  p = std::fma(p, f, 1.0f);
  return p * std::bit_cast<float>((std::bit_cast<uint32_t>(rounded) << 23) + (127u << 23));
}

float add_lanes(const float* x) {
  return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
}

float element(const void* row, int index, bool half) {
  if (!half) return static_cast<const float*>(row)[index];
  uint16_t bits;
  std::memcpy(&bits, static_cast<const std::byte*>(row) + 2 * static_cast<size_t>(index), 2);
  return kernels::half_to_float(bits);
}

void scores(const ScoreArgs& args) {
  const int count = (args.count + kLanes - 1) / kLanes * kLanes;
  for (int row = 0; row < args.rows; ++row) {
    const float* query = args.queries + static_cast<ptrdiff_t>(row) * args.dim;
    for (int key = 0; key < count; ++key) {
      float lanes[kLanes] = {};
      for (int d = 0; d < args.dim; ++d) {
        float& lane = lanes[d % kLanes];
        lane = std::fma(query[d], element(args.keys[key], d, args.half), lane);
      }
      args.scores[row * args.score_stride + key] = add_lanes(lanes);
    }
  }
}

// tanh |x| = (1 - e) / (1 + e) with e = exp(-2 |x|).
void soften(float* scores, int count, float softcap) {
  for (int i = 0; i < count; ++i) {
    const float e = pow2(std::fabs(scores[i]) * (-2.0f * kLog2E));
    scores[i] = std::copysign((1.0f - e) / (1.0f + e), scores[i]) * softcap;
  }
}

void weigh(float* scores, int count, Partial& partial) {
  float maxima[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) maxima[lane] = -INFINITY;
  for (int i = 0; i < count; ++i) {
    float& lane = maxima[i % kLanes];
    lane = lane > scores[i] ? lane : scores[i];
  }
  float max = maxima[0];
  for (int lane = 1; lane < kLanes; ++lane) max = max > maxima[lane] ? max : maxima[lane];
  float sums[kLanes] = {};
  for (int i = 0; i < count; ++i) {
    scores[i] = pow2(scores[i] - max);
    sums[i % kLanes] += scores[i];
  }
  for (int i = count; i % kLanes != 0; ++i) scores[i] = 0;
  partial.max = max;
  partial.sum = add_lanes(sums);
}

void add_values(int rows, const ValueArgs& args) {
  for (int row = 0; row < rows; ++row) {
    for (int key = args.first; key < args.last; ++key) {
      const float weight = args.weights[row][key];
      float* values = args.values[row];
      for (int d = 0; d < args.dim; ++d) {
        values[d] = std::fma(weight, element(args.rows[key], d, args.half), values[d]);
      }
    }
  }
}

void merge(Partial& into, const Partial& later, int dim) {
  const float max = into.max > later.max ? into.max : later.max;
  const float scale_into = pow2(into.max - max);
  const float scale_later = pow2(later.max - max);
  into.max = max;
  into.sum = std::fma(later.sum, scale_later, into.sum * scale_into);
  float* a = into.values();
  const float* b = later.values();
  for (int d = 0; d < dim; ++d) a[d] = std::fma(b[d], scale_later, a[d] * scale_into);
}

void scale(const float* in, float factor, float* out, int dim) {
  for (int d = 0; d < dim; ++d) out[d] = in[d] * factor;
}

void widen(const void** rows, int count, int dim, float* out) {
  for (int row = 0; row < count; ++row, out += dim) {
    for (int d = 0; d < dim; ++d) out[d] = element(rows[row], d, true);
    rows[row] = out;
  }
}

}  // namespace

const AttentionKernels& portable_kernels() {
  static constexpr AttentionKernels kKernels = {"portable", scores, soften, weigh,
                                                add_values, merge,  scale,  widen};
  return kKernels;
}

}  // namespace aurora::attention
