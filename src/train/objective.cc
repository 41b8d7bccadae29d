#include "train/objective.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace aurora {
namespace {

constexpr int64_t kChunkRows = 128;  // 128 x 8192 fp32 = 4 MiB

// Forward KL(p || q) up to the entropy of p, which has no gradient: -sum_v p(v) log q(v) over the
// draft vocabulary. p keeps its true mass m <= 1: d/dlogits = m q - p, so a row whose mass lies
// outside pulls less.
class ForwardKl final : public Objective {
 public:
  double loss_and_grad(at::Tensor& logits, const LawBatch& law) const override {
    const at::Tensor log_normaliser = logits.logsumexp(-1, /*keepdim=*/true);
    const at::Tensor mass = law.probs.sum(-1, /*keepdim=*/true);
    const at::Tensor log_q = logits.gather(-1, law.ids) - log_normaliser;
    const double loss = -((law.probs * log_q).sum(-1) * law.weights).sum().item<double>();
    const at::Tensor weights = law.weights.unsqueeze(-1);
    logits.sub_(log_normaliser).exp_().mul_(mass * weights);
    logits.scatter_add_(-1, law.ids, law.probs * -weights);
    return loss;
  }
};

}  // namespace

std::unique_ptr<Objective> make_objective(ObjectiveKind kind) {
  switch (kind) {
    case ObjectiveKind::kForwardKl: return std::make_unique<ForwardKl>();
  }
  return nullptr;
}

CountingRows counting_rows(const PackedBatch& batch, double step_decay, at::ScalarType dtype) {
  std::vector<int64_t> index, law_row;
  std::vector<double> weight;
  const auto queries = static_cast<size_t>(batch.queries);
  for (size_t k = 0; k < static_cast<size_t>(batch.steps); ++k) {
    const double step_weight = std::pow(step_decay, static_cast<double>(k));
    for (size_t q = 0; q < queries; ++q) {
      const int64_t law = batch.query_law[k * queries + q];
      if (law < 0 || batch.law_mass[static_cast<size_t>(law)] <= 0) continue;
      index.push_back(static_cast<int64_t>(k * queries + q));
      law_row.push_back(law);
      weight.push_back(step_weight);
    }
  }
  CountingRows counting;
  counting.rows = static_cast<int>(index.size());
  if (index.empty()) return counting;
  const at::Tensor rows = at::tensor(law_row, at::kLong);
  const at::Tensor ids = at::tensor(batch.law_ids, at::kInt).view({batch.laws, batch.law_k});
  const at::Tensor probs = at::tensor(batch.law_probs, at::kFloat).view({batch.laws, batch.law_k});
  counting.index = at::tensor(index, at::kLong);
  counting.law.ids = ids.index_select(0, rows).clamp_min(0).to(at::kLong);
  counting.law.probs = probs.index_select(0, rows).to(dtype);
  counting.law.weights =
      (at::tensor(weight, at::kDouble) / static_cast<double>(counting.rows)).to(dtype);
  return counting;
}

HeadLoss head_loss(const Objective& objective, const at::Tensor& states, const at::Tensor& head,
                   const LawBatch& law) {
  const at::NoGradGuard no_grad;
  HeadLoss result;
  const int64_t rows = states.size(0);
  result.grad_states = at::empty_like(states);
  result.grad_head = at::zeros_like(head);
  at::Tensor logits = at::empty({std::min(rows, kChunkRows), head.size(0)}, states.options());
  for (int64_t begin = 0; begin < rows; begin += kChunkRows) {
    const int64_t count = std::min(kChunkRows, rows - begin);
    const at::Tensor chunk_states = states.narrow(0, begin, count);
    at::Tensor chunk = logits.narrow(0, 0, count);
    at::mm_out(chunk, chunk_states, head.t());
    const LawBatch chunk_law = {law.ids.narrow(0, begin, count), law.probs.narrow(0, begin, count),
                                law.weights.narrow(0, begin, count)};
    result.loss += objective.loss_and_grad(chunk, chunk_law);
    at::Tensor grad_chunk = result.grad_states.narrow(0, begin, count);
    at::mm_out(grad_chunk, chunk, head);
    result.grad_head.addmm_(chunk.t(), chunk_states);
  }
  return result;
}

}  // namespace aurora
