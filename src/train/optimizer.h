// AdamW on plain arrays, one pass over memory. No LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aurora {

struct AdamW {
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float weight_decay = 0;  // decoupled: w -= rate * weight_decay * w
};

// One update of `count` weights. step >= 1 is the number of this update (bias correction);
// grad_scale multiplies every gradient first (clipping). m and v are the running moments, changed
// in place like w.
struct AdamWArrays {
  float* w;
  const float* grad;
  float* m;
  float* v;
  size_t count;
};
void adamw_update(const AdamW& options, const AdamWArrays& arrays, int64_t step, float rate,
                  float grad_scale);

double sum_of_squares(const float* x, size_t count);

}  // namespace aurora
