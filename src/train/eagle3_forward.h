// The draft's forward for test-time training, one step after the other: llama.cpp's `eagle3` graph
// (formula: draft_weights.h) with interleaved RoPE, on a packed batch. Private to src/train
// (LibTorch).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "train/batch_tensors.h"
#include "train/eagle3.h"

namespace aurora {

// The arguments outlive it. Cost: step-0 K/V for all rows, everything else for the columns that go
// on. Attention takes path columns x rows of the request, nodes x (rows of the request + depth of
// the tree), and each column's own later steps. One thread.
class Eagle3Forward {
 public:
  Eagle3Forward(const Eagle3& draft, const PackedBatch& batch, const BatchTensors& tensors);

  // The next step's states before the head, output_norm applied: [columns().size(), D]. A column
  // that ran out of tokens still has a row; no label points at it.
  at::Tensor next();

  // Only these go on: rising places in columns().
  void keep(const std::vector<int64_t>& places);

  // Columns of the batch that go on, rising; all of them at first.
  const std::vector<int64_t>& columns() const { return columns_; }

  struct Heads {
    int64_t kv, group, dim;  // query heads = kv * group
  };
  // Keys and values that several columns share: [rows, kv, dim].
  struct Shared {
    at::Tensor k, v;
  };
  // Entries that belong to single columns: raw products with q, -inf where there is none, [n, kv,
  // group, m], and values [n, m, kv, dim]. Undefined: none at all.
  struct Own {
    at::Tensor scores, values;
    Own rows(int64_t begin, int64_t count) const;
  };

 private:
  // Columns of one request that go on, path or nodes: begin ... begin + count - 1 of columns_.
  struct Part {
    int64_t begin = 0, count = 0;
    at::Tensor mask;  // [count, rows of the request]
  };

  at::Tensor joined(const at::Tensor& embed_index, const at::Tensor& g) const;
  void context_entries(at::ScalarType dtype);
  at::Tensor kv_heads(const at::Tensor& x) const;
  at::Tensor layer(const at::Tensor& state, const at::Tensor& z, at::ScalarType dtype);
  void add_entries(const at::Tensor& key, const at::Tensor& value);
  at::Tensor attention(const at::Tensor& q) const;
  Own later_entries(const at::Tensor& q) const;
  at::Tensor rows_of(const at::Tensor& above, int64_t context, const at::Tensor& step0,
                     const PackedRequest& r) const;
  at::Tensor node_attention(const at::Tensor& q, const Shared& rows, const Part& part,
                            const Own& later) const;
  at::Tensor of_ancestors(const at::Tensor& step0) const;

  const Eagle3& d_;
  const PackedBatch& batch_;
  const BatchTensors& t_;
  const Heads heads_;
  int step_ = 0;
  std::vector<int64_t> columns_;
  int64_t paths_count_ = 0;             // leading columns_ that are of paths
  std::vector<Part> paths_, nodes_;     // per request
  at::Tensor state_, index_;            // index_: columns_, undefined while all go on
  at::Tensor position_;                 // of columns_
  at::Tensor context_k_, context_v_;    // [rows before the supervised ones, kv, dim]
  at::Tensor k0_, v0_;                  // step 0, all columns, [queries, kv, dim]
  at::Tensor ancestor_k_, ancestor_v_;  // step 0, nodes that go on, [nodes, depth, kv, dim]
  at::Tensor ancestor_mask_;
  std::vector<at::Tensor> own_k_, own_v_;  // later steps: an entry a column, seen by it alone
};

// All steps of all columns: per step [queries, D].
std::vector<at::Tensor> eagle3_forward(const Eagle3& draft, const PackedBatch& batch,
                                       const BatchTensors& tensors, int steps);

}  // namespace aurora
