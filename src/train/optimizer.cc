#include "train/optimizer.h"

#include <cmath>

namespace aurora {

// Built for AVX2 as well and chosen at load time: the rest of the program stays at the baseline
// instruction set.
#if defined(__x86_64__)
#define AURORA_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define AURORA_CLONES
#endif

AURORA_CLONES
void adamw_update(const AdamW& options, const AdamWArrays& arrays, int64_t step, float rate,
                  float grad_scale) {
  const double t = static_cast<double>(step);
  const float correct1 = static_cast<float>(1.0 / (1.0 - std::pow(double{options.beta1}, t)));
  const float correct2 = static_cast<float>(1.0 / (1.0 - std::pow(double{options.beta2}, t)));
  const float beta1 = options.beta1, beta2 = options.beta2, eps = options.eps;
  const float keep = 1.0f - rate * options.weight_decay;
  float* __restrict w = arrays.w;
  const float* __restrict grad = arrays.grad;
  float* __restrict m = arrays.m;
  float* __restrict v = arrays.v;
  for (size_t i = 0; i < arrays.count; ++i) {
    const float g = grad[i] * grad_scale;
    m[i] = beta1 * m[i] + (1.0f - beta1) * g;
    v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
    w[i] = keep * w[i] - rate * (m[i] * correct1) / (std::sqrt(v[i] * correct2) + eps);
  }
}

AURORA_CLONES
double sum_of_squares(const float* x, size_t count) {
  constexpr size_t kLanes =
      16;  // independent sums: float addition may not be reordered by the compiler
  float lanes[kLanes] = {};
  double total = 0;
  size_t i = 0;
  while (i + kLanes <= count) {
    const size_t end = i + kLanes * 256 <= count ? i + kLanes * 256 : i + kLanes;
    for (; i < end; i += kLanes)
      for (size_t j = 0; j < kLanes; ++j) lanes[j] += x[i + j] * x[i + j];
    for (float& lane : lanes) {
      total += lane;
      lane = 0;
    }
  }
  for (; i < count; ++i) total += static_cast<double>(x[i]) * x[i];
  return total;
}

}  // namespace aurora
