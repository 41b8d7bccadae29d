// A packed batch as tensors, in the draft's float type. Private to src/train (LibTorch).
#pragma once

#include <torch/types.h>

#include <vector>

#include "draft/draft_weights.h"
#include "train/packed_batch.h"

namespace aurora {

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

}  // namespace aurora
