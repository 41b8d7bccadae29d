// What the learner changes: the draft's weights, AdamW's moments, the mean that serves, and the
// draft vocabulary that they are for. LibTorch. One thread.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "train/eagle3.h"
#include "train/learner.h"
#include "train/packed_batch.h"

namespace aurora {

class TrainedWeights {
 public:
  using Tensors = std::array<at::Tensor, kTensorCount>;
  using Gradients = Tensors;

  // `rows` and `options`, whose rates are numbers, must outlive it.
  TrainedWeights(const DraftWeights& start, const TargetRows& rows, const LearnOptions& options);

  Eagle3& draft() { return draft_; }
  const Eagle3& draft() const { return draft_; }
  Eagle3 served() const;  // shares its tensors
  const std::vector<int64_t>& d2t() const { return d2t_; }
  const DraftIndex& vocab() const { return vocab_; }
  int64_t updates() const { return updates_; }

  void update(Gradients& grads);  // one that is not finite is dropped
  // As Learner has them.
  Status set_vocab(std::vector<int64_t> d2t);
  void keep_good();
  bool go_back();
  uint64_t checksum() const;
  SavedLearner save() const;
  Status load(std::span<const std::byte> bytes);

 private:
  void average();

  const TargetRows& rows_;
  const LearnOptions& options_;
  Eagle3 draft_;
  std::vector<int64_t> d2t_;
  DraftIndex vocab_;
  Tensors m_, v_;
  Tensors mean_;  // of the weights over the last updates, if it serves
  struct Good {
    Tensors p;  // fp16: half a copy
    std::vector<int64_t> d2t;
  };
  std::optional<Good> good_;
  float rate_share_ = 1;  // of the rates, until ...
  int64_t slow_until_ = 0;
  int64_t updates_ = 0;
};

}  // namespace aurora
