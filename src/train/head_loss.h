// Which rows of a batch count, and the draft's head fused with their losses: rows x vocabulary
// never exists as a whole. Private to src/train (LibTorch).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "train/objective.h"
#include "train/packed_batch.h"

namespace aurora {

// The steps and columns whose states are at hand: [steps of the block * columns, D], one step
// behind the other.
struct RowBlock {
  int step0 = 0, steps = 0;
  std::span<const int64_t> columns;  // of the batch, rising
};

// The rows that count, and where their states lie in the block. A row counts when a label is left
// at its step and the label's law has mass in the draft vocabulary (or what RowNeeds says).
struct CountingRows {
  LawBatch law;
  at::Tensor index;  // [rows] into the block
  int rows = 0;      // 0: law and index are undefined
};

struct RowOptions {
  bool branches = false;       // the branch nodes' rows instead of the accepted paths'
  double step_decay = 1.0;     // weights: scale * step_decay^k, of a prompt token's row ...
  double prompt_weight = 1.0;  // ... times this ...
  double scale = 1.0;
  int norm = 0;  // ... over so many rows; 0: over the number of rows that count
};
CountingRows counting_rows(const PackedBatch& batch, const RowBlock& block,
                           const RowOptions& options, const RowNeeds& needs, at::ScalarType dtype);

// How many there are, without their laws.
int count_rows(const PackedBatch& batch, const RowBlock& block, const RowOptions& options,
               const RowNeeds& needs);

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
  // Where it is asked for. [rows] 1: the argmax is the token that serving would have accepted, the
  // served one, on a branch the first of the law.
  std::vector<uint8_t> hit;
};

// states: [rows of all terms, D]; grad_head: [V, D], the head's gradient is added to it. logits =
// states head^T, in chunks of rows that stay in cache. No autograd: the caller feeds grad_states
// on.
HeadLoss head_loss(std::span<const LossTerm> terms, const at::Tensor& states,
                   const at::Tensor& head, at::Tensor& grad_head, bool want_hits = false);

}  // namespace aurora
