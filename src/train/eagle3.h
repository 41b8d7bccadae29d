// The draft as tensors (formula: draft_weights.h). Private to src/train (LibTorch).
#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "draft/draft_weights.h"

namespace aurora {

// Order of the tensors everywhere: parameters, gradients, optimiser state, checkpoint.
enum DraftTensor {
  kFc,
  kAttnNorm,
  kHiddenNorm,
  kWq,
  kWk,
  kWv,
  kWo,
  kFfnNorm,
  kGate,
  kUp,
  kDown,
  kOutputNorm,
  kOutput,
  kTensorCount
};

struct Eagle3 {
  DraftShape shape;
  bool bf16 = false;   // products in bf16
  double dropout = 0;  // of the MLP's hidden units and the attention's output, with gradients
  bool context_grad = false;  // gradient through keys and values of rows before the supervised ones
  std::array<at::Tensor, kTensorCount> p;
  const at::Tensor& operator[](DraftTensor i) const { return p[i]; }
};

// dtype: kFloat, or kDouble in tests. Copies.
Eagle3 eagle3_from(const DraftWeights& weights, at::ScalarType dtype);
DraftWeights eagle3_to(const Eagle3& draft, std::vector<int64_t> d2t);
std::array<std::vector<float>*, kTensorCount> draft_arrays(DraftWeights& weights);

// x over its root mean square, the norm before its weight.
at::Tensor unit_rms(const at::Tensor& x, double eps);

// A flat array as a tensor of that shape and type, and indices as a tensor of one dimension.
// Copies.
at::Tensor floats(const std::vector<float>& values, at::IntArrayRef shape, at::ScalarType dtype);
at::Tensor longs(std::span<const int64_t> values);

}  // namespace aurora
