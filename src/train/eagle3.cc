#include "train/eagle3.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace aurora {

at::Tensor unit_rms(const at::Tensor& x, double eps) {
  return x * (x.square().mean(-1, /*keepdim=*/true) + eps).rsqrt();
}

at::Tensor floats(const std::vector<float>& values, at::IntArrayRef shape, at::ScalarType dtype) {
  at::Tensor out = at::empty(shape, at::kFloat);
  std::copy(values.begin(), values.end(), out.data_ptr<float>());
  return out.to(dtype);
}

at::Tensor longs(std::span<const int64_t> values) {
  at::Tensor out = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), out.data_ptr<int64_t>());
  return out;
}

std::array<std::vector<float>*, kTensorCount> draft_arrays(DraftWeights& w) {
  return {&w.fc,       &w.attn_norm, &w.hidden_norm, &w.wq,   &w.wk,          &w.wv,    &w.wo,
          &w.ffn_norm, &w.gate,      &w.up,          &w.down, &w.output_norm, &w.output};
}

Eagle3 eagle3_from(const DraftWeights& weights, at::ScalarType dtype) {
  Eagle3 draft;
  draft.shape = weights.shape;
  const auto arrays = draft_arrays(const_cast<DraftWeights&>(weights));  // read only
  const int64_t d = weights.shape.hidden, ff = weights.shape.ff;
  const int64_t q = int64_t{weights.shape.heads} * weights.shape.head_dim;
  const int64_t kv = int64_t{weights.shape.kv_heads} * weights.shape.head_dim;
  const auto v = static_cast<int64_t>(weights.d2t.size());
  const std::vector<int64_t> shapes[kTensorCount] = {
      {d, 3 * d}, {d},     {d},     {q, 2 * d}, {kv, 2 * d}, {kv, 2 * d}, {d, q},
      {d},        {ff, d}, {ff, d}, {d, ff},    {d},         {v, d}};
  for (size_t i = 0; i < kTensorCount; ++i) {
    CHECK(static_cast<int64_t>(arrays[i]->size()) == c10::multiply_integers(shapes[i]));
    draft.p[i] = floats(*arrays[i], shapes[i], dtype);
  }
  return draft;
}

DraftWeights eagle3_to(const Eagle3& draft, std::vector<int64_t> d2t) {
  DraftWeights weights;
  weights.shape = draft.shape;
  weights.d2t = std::move(d2t);
  const auto arrays = draft_arrays(weights);
  for (size_t i = 0; i < kTensorCount; ++i) {
    const at::Tensor flat = draft.p[i].detach().to(at::kFloat).contiguous();
    arrays[i]->assign(flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel());
  }
  return weights;
}

}  // namespace aurora
