#include "train/trainer_parts.h"

#include <algorithm>

#include "base/log.h"
#include "train/draft_start.h"
#include "train/draft_vocab.h"

namespace aurora {

Status RowsOfTarget::token_rows(std::span<const int32_t> ids, float* out) const {
  return target_.token_rows(ids, out);
}

Status RowsOfTarget::head_rows(std::span<const int64_t> ids, float* out) const {
  return target_.head_rows(ids, out);
}

namespace {

// Auto: four thirds of the target's width, where its own MLP is wider. Most of a draft's weights
// are in its MLP, and what a step and a drafted token cost goes by them (docs/results/learning.md).
int mlp_width(const TrainOptions& options, const DraftShape& target) {
  if (options.mlp > 0) return options.mlp;
  return std::min(target.ff, (target.hidden * 4 / 3 + 31) / 32 * 32);
}

}  // namespace

Result<DraftWeights> start_draft(const TrainOptions& options, const TargetWeights& target) {
  if (options.init != "target" && options.init != "random") {
    if (options.mlp > 0)
      return Status::invalid("--train-mlp is for a new draft; that of --init FILE has its width");
    auto draft = read_draft_file(options.init);
    if (draft && draft->shape.hidden != target.shape().hidden)
      return Status::invalid(options.init + ": a draft of another hidden size than the target's");
    return draft;
  }
  if (options.mlp % 32 != 0)
    return Status::invalid("--train-mlp " + std::to_string(options.mlp) +
                           " must be a multiple of 32");
  const DraftVocab vocab(target.shape().target_vocab, options.vocab);
  auto draft = target.initial_draft(vocab.best());
  if (options.init == "target")
    for (const std::string& note : target.notes())
      LOG_INFO("train", "the first draft is the target's last layer, but: %s", note.c_str());
  if (draft) resize_mlp(*draft, mlp_width(options, target.shape()), options.loop.seed);
  if (draft && options.init == "random") randomise(*draft, options.loop.seed);
  if (draft && options.init == "target") attend_to_own_token(*draft, {}, options.loop.seed);
  return draft;
}

}  // namespace aurora
