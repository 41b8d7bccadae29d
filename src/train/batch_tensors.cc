#include "train/batch_tensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <span>

#include "train/eagle3.h"

namespace aurora {
namespace {

using at::Tensor;

// Who sees whom among the nodes and before their forks.
void add_tree(const PackedBatch& batch, at::ScalarType dtype, BatchTensors& t) {
  const double hidden = -std::numeric_limits<double>::infinity();
  std::vector<std::vector<int64_t>> lines;  // of each node: itself, its parent, ...
  size_t depth = 0;
  for (int64_t node = 0; node < batch.nodes; ++node) {
    std::vector<int64_t> line = {node};
    const int64_t parent = batch.node_parent[static_cast<size_t>(node)];
    if (parent >= 0) {
      const auto& above = lines[static_cast<size_t>(parent)];
      line.insert(line.end(), above.begin(), above.end());
    }
    depth = std::max(depth, line.size());
    lines.push_back(std::move(line));
  }
  std::vector<int64_t> ancestors;
  std::vector<float> mask;
  for (int64_t node = 0; node < batch.nodes; ++node) {
    const auto& line = lines[static_cast<size_t>(node)];
    for (size_t j = 0; j < depth; ++j) {
      ancestors.push_back(j < line.size() ? line[j] : node);
      mask.push_back(j < line.size() ? 0.0f : static_cast<float>(hidden));
    }
  }
  const auto width = static_cast<int64_t>(depth);
  t.ancestors = longs(ancestors).view({batch.nodes, width});
  t.ancestor_mask = floats(mask, {batch.nodes, 1, 1, width}, dtype);
  const Tensor prefix = longs(batch.node_prefix);
  for (const PackedRequest& r : batch.requests) {
    const Tensor row = at::arange(r.rows, at::kLong).unsqueeze(0);
    const Tensor end = prefix.narrow(0, r.node0, r.nodes).unsqueeze(1);
    t.node_masks.push_back(at::zeros({r.nodes, r.rows}, dtype).masked_fill_(row >= end, hidden));
  }
}

}  // namespace

BatchTensors to_tensors(const PackedBatch& batch, const DraftShape& shape, at::ScalarType dtype) {
  BatchTensors t;
  t.taps = floats(batch.taps, {batch.rows + batch.nodes, 3 * batch.hidden}, dtype);
  t.embeds =
      unit_rms(floats(batch.embeds, {batch.embeds_count, batch.hidden}, dtype), shape.rms_eps);
  const Tensor row_embed = longs(batch.row_embed);
  t.query_row = longs(batch.query_row);
  const auto queries = static_cast<size_t>(batch.queries);
  for (size_t k = 0; k < static_cast<size_t>(batch.steps); ++k)
    t.query_embed.push_back(longs(std::span(batch.query_embed).subspan(k * queries, queries)));
  const Tensor position = floats(batch.position, {batch.rows + batch.nodes}, at::kDouble);
  t.query_position = position.index_select(0, t.query_row);
  std::vector<int64_t> context;
  for (const PackedRequest& r : batch.requests)
    for (int j = 0; j < r.rows - r.queries; ++j) context.push_back(r.row0 + j);
  t.context_row = longs(context);
  t.context_embed = row_embed.index_select(0, t.context_row);
  t.context_position = position.index_select(0, t.context_row);
  for (const PackedRequest& r : batch.requests) {
    // Query i stands at row first + i and sees rows up to itself.
    const Tensor row = at::arange(r.rows, at::kLong).unsqueeze(0);
    const Tensor last = at::arange(r.rows - r.queries, r.rows, at::kLong).unsqueeze(1);
    t.masks.push_back(at::zeros({r.queries, r.rows}, dtype)
                          .masked_fill_(row > last, -std::numeric_limits<double>::infinity()));
  }
  if (batch.nodes > 0) add_tree(batch, dtype, t);
  return t;
}

}  // namespace aurora
