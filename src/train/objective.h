// What one row of logits is pulled towards, and the draft's head fused with it: rows x vocabulary
// never exists as a whole. Private to src/train (LibTorch).
#pragma once

#include <torch/types.h>

#include <memory>

#include "train/packed_batch.h"

namespace aurora {

// The rows that count, all steps together. Types: ids int64, everything else the draft's own float
// type.
struct LawBatch {
  at::Tensor
      ids;  // [rows, k] draft indices; where the id is outside the vocabulary 0, with probability 0
  at::Tensor
      probs;  // [rows, k] the target's law restricted to the draft vocabulary, NOT normalised
  at::Tensor weights;  // [rows] step weight over the number of rows
};

// The rows of a batch that count, and where their states lie among those of all steps, one step
// behind the other. A row counts when a label is left at its step and the label's law has mass in
// the draft vocabulary. Weights: step_decay^k over the number of rows.
struct CountingRows {
  LawBatch law;
  at::Tensor index;  // [rows] into [steps * queries]
  int rows = 0;      // 0: law and index are undefined
};
CountingRows counting_rows(const PackedBatch& batch, double step_decay, at::ScalarType dtype);

// One objective: in: logits [rows, V], overwritten with d(loss)/d(logits); out: sum of weights *
// loss of the rows. Stateless. Objectives that look across steps will get the column of each row in
// LawBatch.
class Objective {
 public:
  virtual ~Objective() = default;
  virtual double loss_and_grad(at::Tensor& logits, const LawBatch& law) const = 0;
};

std::unique_ptr<Objective> make_objective(ObjectiveKind kind);

struct HeadLoss {
  double loss = 0;
  at::Tensor grad_states;  // [rows, D]
  at::Tensor grad_head;    // [V, D]
};

// logits = states head^T, in chunks of rows that stay in cache. No autograd: the caller feeds
// grad_states on.
HeadLoss head_loss(const Objective& objective, const at::Tensor& states, const at::Tensor& head,
                   const LawBatch& law);

}  // namespace aurora
