// Which rows of a batch count, and the draft's head fused with their losses: rows x vocabulary
// never exists as a whole. Private to src/train (LibTorch).
#pragma once

#include <torch/types.h>

#include <span>

#include "train/objective.h"
#include "train/packed_batch.h"

namespace aurora {

// The rows that count, and where their states lie among those of all steps, one step behind the
// other. A row counts when a label is left at its step and the label's law has mass in the draft
// vocabulary (or what RowNeeds says).
struct CountingRows {
  LawBatch law;
  at::Tensor index;  // [rows] into [steps * queries]
  int rows = 0;      // 0: law and index are undefined
};

struct RowOptions {
  bool branches = false;    // the branch nodes' rows instead of the accepted paths'
  double step_decay = 1.0;  // weights: scale * step_decay^k over the number of rows
  double scale = 1.0;
};
CountingRows counting_rows(const PackedBatch& batch, const RowOptions& options,
                           const RowNeeds& needs, at::ScalarType dtype);

// One summand of the loss.
struct LossTerm {
  const Objective& objective;
  CountingRows rows;
};

// Index of all terms' rows, one term behind the other; undefined when none counts.
at::Tensor rows_of_terms(std::span<const LossTerm> terms);

struct HeadLoss {
  double loss = 0;
  at::Tensor grad_states;  // [rows, D]
  at::Tensor grad_head;    // [V, D]
};

// states: [rows of all terms, D]. logits = states head^T, in chunks of rows that stay in cache. No
// autograd: the caller feeds grad_states on.
HeadLoss head_loss(std::span<const LossTerm> terms, const at::Tensor& states,
                   const at::Tensor& head);

}  // namespace aurora
