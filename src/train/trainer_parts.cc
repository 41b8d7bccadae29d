#include "train/trainer_parts.h"

#include "train/draft_start.h"
#include "train/draft_vocab.h"

namespace aurora {

Status RowsOfTarget::token_rows(std::span<const int32_t> ids, float* out) const {
  return target_.token_rows(ids, out);
}

Status RowsOfTarget::head_rows(std::span<const int64_t> ids, float* out) const {
  return target_.head_rows(ids, out);
}

Result<DraftWeights> start_draft(const TrainOptions& options, const TargetWeights& target) {
  if (options.init != "target" && options.init != "random") {
    if (options.mlp > 0)
      return Status::invalid("--train-mlp is for a new draft; that of --init FILE has its width");
    auto draft = read_draft_file(options.init);
    if (draft && draft->shape.hidden != target.shape().hidden)
      return Status::invalid(options.init + ": a draft of another hidden size than the target's");
    return draft;
  }
  const int ff = target.shape().ff;
  if (options.mlp > 0 && (options.mlp < ff || options.mlp % 32 != 0))
    return Status::invalid("--train-mlp " + std::to_string(options.mlp) +
                           " must be a multiple of 32 and at least " + std::to_string(ff) +
                           ", the width of the target's MLP");
  const DraftVocab vocab(target.shape().target_vocab, options.vocab);
  auto draft = target.initial_draft(vocab.best());
  if (draft && options.mlp > ff) widen_mlp(*draft, options.mlp, options.loop.seed);
  if (draft && options.init == "random") randomise(*draft, options.loop.seed);
  if (draft && options.init == "target") attend_to_own_token(*draft, {}, options.loop.seed);
  return draft;
}

}  // namespace aurora
