// What the trainer is joined of, whether it serves a server or replays a recording.
#pragma once

#include "train/learner.h"
#include "train/target_weights.h"
#include "train/train_options.h"

namespace aurora {

// `target` outlives it.
class RowsOfTarget final : public TargetRows {
 public:
  explicit RowsOfTarget(const TargetWeights& target) : target_(target) {}
  Status token_rows(std::span<const int32_t> ids, float* out) const override;
  Status head_rows(std::span<const int64_t> ids, float* out) const override;

 private:
  const TargetWeights& target_;
};

// The first draft, as --init says.
Result<DraftWeights> start_draft(const TrainOptions& options, const TargetWeights& target);

}  // namespace aurora
