#include "train/objective.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

namespace aurora {
namespace {

using at::Tensor;

constexpr double kGreedyTemperature = 0.5;
constexpr double kBlendRate = 3.0;
constexpr double kOverlapMin = 1e-30;  // q may be 0 in fp32 wherever p is not
constexpr double kRestMin = 1e-6;      // a named law may sum to 1

double weighted_sum(const Tensor& loss, const Tensor& weights) {
  return (loss * weights).sum().item<double>();
}

// Turns logits into q and returns log q of the ids that the law names.
Tensor to_probs(Tensor& logits, const Tensor& ids) {
  const Tensor log_normaliser = logits.logsumexp(-1, /*keepdim=*/true);
  const Tensor log_q = logits.gather(-1, ids) - log_normaliser;
  logits.sub_(log_normaliser).exp_();
  return log_q;
}

// All gradients but the reverse KL's are of this form: everywhere * q, and `named` at the ids.
// Padded ids are 0: their entry of `named` has to be 0.
void set_grad(Tensor& q, const Tensor& everywhere, const Tensor& ids, const Tensor& named) {
  q.mul_(everywhere);
  q.scatter_add_(-1, ids, named);
}

class ForwardKl final : public Objective {
 public:
  double loss_and_grad(Tensor& logits, const LawBatch& law) const override {
    const Tensor weights = law.weights.unsqueeze(-1);
    const Tensor mass = law.probs.sum(-1, /*keepdim=*/true);
    const Tensor log_q = to_probs(logits, law.ids);
    set_grad(logits, mass * weights, law.ids, law.probs * -weights);
    return -weighted_sum((law.probs * log_q).sum(-1), law.weights);
  }
};

class ReverseKl final : public Objective {
 public:
  double loss_and_grad(Tensor& logits, const LawBatch& law) const override {
    const Tensor is_named = law.probs > 0;
    const Tensor mass = law.probs.sum(-1, /*keepdim=*/true);
    const Tensor rest = law.rest.unsqueeze(-1).clamp_min(kRestMin);
    const Tensor others = (logits.size(-1) - is_named.sum(-1, /*keepdim=*/true)).clamp_min(1);
    const Tensor log_other = (rest / others).log();
    // log q - log p' of every token: first as if p named none, then put right where it does.
    Tensor ratio = logits - logits.logsumexp(-1, /*keepdim=*/true);
    const Tensor q = ratio.exp();
    ratio.sub_(log_other).add_((mass + rest).log());
    const Tensor log_p = at::where(is_named, law.probs, at::ones_like(law.probs)).log();
    ratio.scatter_add_(-1, law.ids, (log_other - log_p) * is_named);
    const Tensor kl = (q * ratio).sum(-1, /*keepdim=*/true);
    const Tensor weights = law.weights.unsqueeze(-1) * mass;
    logits.copy_(ratio.sub_(kl).mul_(q).mul_(weights));
    return (kl * weights).sum().item<double>();
  }
};

class CrossEntropy final : public Objective {
 public:
  RowNeeds needs() const override { return {.served = true}; }
  double loss_and_grad(Tensor& logits, const LawBatch& law) const override {
    const Tensor served = law.served.unsqueeze(-1);
    const Tensor weights = law.weights.unsqueeze(-1);
    const Tensor log_q = to_probs(logits, served);
    set_grad(logits, weights, served, -weights);
    return -weighted_sum(log_q.squeeze(-1), law.weights);
  }
};

class OverlapNla final : public Objective {
 public:
  double loss_and_grad(Tensor& logits, const LawBatch& law) const override {
    const Tensor q = to_probs(logits, law.ids).exp();
    const Tensor overlap = at::minimum(q, law.probs).sum(-1).clamp_min(kOverlapMin);
    // d(overlap)/d(logit v) = q_v (s_v - sum s q), s = 1 where q < p.
    const Tensor below = q * (q < law.probs);
    const Tensor slope = (law.weights / overlap).unsqueeze(-1);
    set_grad(logits, below.sum(-1, /*keepdim=*/true) * slope, law.ids, -below * slope);
    return -weighted_sum(overlap.log(), law.weights);
  }
};

class OverlapBlend final : public Objective {
 public:
  double loss_and_grad(Tensor& logits, const LawBatch& law) const override {
    const Tensor log_q = to_probs(logits, law.ids);
    const Tensor q = log_q.exp();
    const Tensor overlap = at::minimum(q, law.probs).sum(-1);
    const Tensor below = q * (q < law.probs);
    const Tensor kl_share = (overlap * -kBlendRate).exp();
    const Tensor kl_weight = (law.weights * kl_share).unsqueeze(-1);
    const Tensor tv_weight = (law.weights * (1 - kl_share)).unsqueeze(-1);
    const Tensor mass = law.probs.sum(-1, /*keepdim=*/true);
    set_grad(logits, kl_weight * mass + tv_weight * below.sum(-1, /*keepdim=*/true), law.ids,
             -(kl_weight * law.probs + tv_weight * below));
    const Tensor kl = -(law.probs * log_q).sum(-1);
    return weighted_sum(kl_share * kl + (1 - kl_share) * (1 - overlap), law.weights);
  }
};

// Per-row numbers on the host, where columns are walked.
std::vector<double> to_host(const Tensor& rows) {
  const Tensor values = rows.to(at::kDouble).contiguous();
  const auto* begin = values.data_ptr<double>();
  return {begin, begin + values.numel()};
}

Tensor to_rows(const std::vector<double>& values, at::ScalarType dtype) {
  return at::tensor(values, at::kDouble).to(dtype);
}

// [begin, end) of each column's rows.
template <typename F>
void for_each_column(const Tensor& column, F&& f) {
  const auto* of_row = column.data_ptr<int64_t>();
  const auto rows = static_cast<size_t>(column.size(0));
  for (size_t begin = 0, end = 0; begin < rows; begin = end) {
    while (end < rows && of_row[end] == of_row[begin]) ++end;
    f(begin, end);
  }
}

class AcceptLen final : public Objective {
 public:
  explicit AcceptLen(double temperature) : temperature_(temperature) {}
  RowNeeds needs() const override { return {.by_column = true, .own_weights = true}; }
  double loss_and_grad(Tensor& logits, const LawBatch& law) const override {
    if (temperature_ != 1) logits.div_(temperature_);
    const Tensor hit = to_probs(logits, law.ids).exp() * law.probs;
    const Tensor alpha = hit.sum(-1);
    const Chain chain = walk(to_host(alpha), to_host(law.weights), law.column);
    const Tensor slope = to_rows(chain.slope, logits.scalar_type()) / temperature_;
    set_grad(logits, -(slope * alpha).unsqueeze(-1), law.ids, hit * slope.unsqueeze(-1));
    return chain.loss;
  }

 private:
  struct Chain {
    double loss = 0;
    std::vector<double> slope;  // d(loss)/d(alpha)
  };

  // loss = sum_k w_k (1 - prod_{j<=k} alpha_j). Its slope at j is -(prod_{i<j} alpha_i) behind_j
  // with behind_j = w_j + alpha_{j+1} behind_{j+1}: no division, an alpha may be 0.
  static Chain walk(const std::vector<double>& alpha, const std::vector<double>& weights,
                    const Tensor& column) {
    Chain chain;
    chain.slope.resize(alpha.size());
    for_each_column(column, [&](size_t begin, size_t end) {
      double behind = 0;
      for (size_t j = end; j-- > begin;) {
        behind = weights[j] + (j + 1 < end ? alpha[j + 1] * behind : 0);
        chain.slope[j] = -behind;
      }
      double reached = 1;
      for (size_t j = begin; j < end; ++j) {
        chain.slope[j] *= reached;
        reached *= alpha[j];
        chain.loss += weights[j] * (1 - reached);
      }
    });
    return chain;
  }

  const double temperature_;
};

class ReachWeighted final : public Objective {
 public:
  explicit ReachWeighted(std::unique_ptr<Objective> inner) : inner_(std::move(inner)) {}
  RowNeeds needs() const override {
    RowNeeds needs = inner_->needs();
    needs.by_column = true;
    return needs;
  }
  double loss_and_grad(Tensor& logits, const LawBatch& law) const override {
    const Tensor best = logits.argmax(-1, /*keepdim=*/true);
    const std::vector<double> taken = to_host((law.probs * (law.ids == best)).sum(-1));
    std::vector<double> weights = to_host(law.weights);
    for_each_column(law.column, [&](size_t begin, size_t end) {
      double reached = 1;
      for (size_t j = begin; j < end; ++j) {
        weights[j] *= reached;
        reached *= taken[j];
      }
    });
    LawBatch weighted = law;
    weighted.weights = to_rows(weights, law.weights.scalar_type());
    return inner_->loss_and_grad(logits, weighted);
  }

 private:
  const std::unique_ptr<Objective> inner_;
};

class TopKForwardKl final : public Objective {
 public:
  explicit TopKForwardKl(int top_k) : top_k_(top_k) {}
  double loss_and_grad(Tensor& logits, const LawBatch& law) const override {
    LawBatch top = law;
    const int64_t k = std::min<int64_t>(top_k_, law.ids.size(-1));
    top.ids = law.ids.narrow(-1, 0, k);
    top.probs = law.probs.narrow(-1, 0, k);
    return ForwardKl().loss_and_grad(logits, top);
  }

 private:
  const int top_k_;
};

std::unique_ptr<Objective> make_plain(ObjectiveKind kind) {
  switch (kind) {
    case ObjectiveKind::kForwardKl: return std::make_unique<ForwardKl>();
    case ObjectiveKind::kReverseKl: return std::make_unique<ReverseKl>();
    case ObjectiveKind::kCrossEntropy: return std::make_unique<CrossEntropy>();
    case ObjectiveKind::kAcceptLen: return std::make_unique<AcceptLen>(1.0);
    case ObjectiveKind::kAcceptLenGreedy: return std::make_unique<AcceptLen>(kGreedyTemperature);
    case ObjectiveKind::kOverlapNla: return std::make_unique<OverlapNla>();
    case ObjectiveKind::kOverlapBlend: return std::make_unique<OverlapBlend>();
  }
  return nullptr;
}

}  // namespace

std::unique_ptr<Objective> make_objective(ObjectiveKind kind, bool reach_weights) {
  std::unique_ptr<Objective> plain = make_plain(kind);
  if (!reach_weights || plain->needs().own_weights) return plain;
  return std::make_unique<ReachWeighted>(std::move(plain));
}

std::unique_ptr<Objective> make_discard_objective(int top_k) {
  if (top_k <= 0) return std::make_unique<ForwardKl>();
  return std::make_unique<TopKForwardKl>(top_k);
}

}  // namespace aurora
