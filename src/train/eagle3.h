// The draft as tensors and its forward for test-time training: llama.cpp's `eagle3` graph (formula:
// draft_weights.h) with interleaved RoPE, on a packed batch. Private to src/train (LibTorch).
#pragma once

#include <torch/types.h>

#include <array>
#include <vector>

#include "train/draft_weights.h"
#include "train/packed_batch.h"

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
  bool bf16 = false;          // products in bf16
  bool context_grad = false;  // gradient through keys and values of rows before the supervised ones
  std::array<at::Tensor, kTensorCount> p;
  const at::Tensor& operator[](DraftTensor i) const { return p[i]; }
};

// dtype: kFloat, or kDouble in tests. Copies.
Eagle3 eagle3_from(const DraftWeights& weights, at::ScalarType dtype);
DraftWeights eagle3_to(const Eagle3& draft, std::vector<int64_t> d2t);
std::array<std::vector<float>*, kTensorCount> draft_arrays(DraftWeights& weights);

// A packed batch as tensors of the draft's type.
struct BatchTensors {
  at::Tensor taps;    // [rows + nodes, 3D]
  at::Tensor embeds;  // [embeds, D] scaled to unit RMS (the norm before its weight)
  at::Tensor query_row, query_position;  // [queries]; positions float64
  std::vector<at::Tensor> query_embed;   // per step [queries]
  // Rows before the supervised ones, all requests one behind the other.
  at::Tensor context_row, context_embed, context_position;  // [rows - queries]
  std::vector<at::Tensor>
      masks;  // per request [queries, rows] 0 or -inf: causal over step-0 entries
  // Branch nodes: per request the mask over its rows, and of all nodes the few entries that each
  // sees among them. Undefined where there are none.
  std::vector<at::Tensor> node_masks;  // [nodes, rows] 0 or -inf: the rows before the fork
  at::Tensor ancestors;      // [nodes, depth] the node, its parent, ...; padded with itself
  at::Tensor ancestor_mask;  // [nodes, 1, 1, depth] 0 or -inf: padding
};
BatchTensors to_tensors(const PackedBatch& batch, const DraftShape& shape, at::ScalarType dtype);

// Per step k the state before the head, output_norm applied: [queries, D]. A column that ran out of
// tokens at step k still has a row; no label points at it. Cost: step-0 K/V for all rows,
// everything else for supervised columns only. Attention takes path columns x rows of the request,
// nodes x (rows of the request + depth of the tree), and each column's own later steps.
std::vector<at::Tensor> eagle3_forward(const Eagle3& draft, const PackedBatch& batch,
                                       const BatchTensors& tensors, int steps);

}  // namespace aurora
