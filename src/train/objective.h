// What one row of logits is pulled towards. p: the target's law of the row, as far as the record
// names it and the draft can say it, NOT normalised: m = sum p <= 1. q: softmax of the logits over
// the draft vocabulary. Every objective is lossless in what it serves; they differ in what the
// draft becomes good at. Each gives its gradient in closed form, without autograd. Private to
// src/train (LibTorch). Names as in --objective:
//
// forward-kl: -sum p log q, KL(p || q) up to the entropy of p. Gradient m q - p: a row whose mass
//   lies outside the vocabulary pulls less. The public Aurora's loss on accepted tokens
//   (arXiv 2602.06932), and EAGLE-3's (arXiv 2503.01840).
// reverse-kl: m KL(q || p'), p' the law given that the token is in the draft vocabulary: named
//   tokens by p, the rest of the law in equal parts on the others. Prefers one mode of p to a
//   spread over all (MiniLLM, arXiv 2306.08543).
// cross-entropy: -log q(x), x the served token; rows whose x is outside do not count. Needs no law:
//   the policy gradient of a reward of 1 for what was served.
// accept-len: the reward when the draft is sampled, E = sum_k prod_{j<=k} alpha_j over the steps of
//   a column, alpha = sum q p. Its gradient is REINFORCE (Williams 1992) with the expectation taken
//   in closed form: d(alpha)/d(logit v) = q_v (p_v - alpha). The loss is sum_k (1 - prod), so that
//   it falls to 0. A step counts by the steps before it: no step weights besides.
// accept-len-greedy: the same for a draft that says its argmax, as serving does: alpha = p(argmax
//   q), which has no gradient. Surrogate: alpha = sum q_T p with q_T = softmax(logits / T), T =
//   1/2, which is p(argmax q) in the limit T -> 0.
// overlap-nla: -log beta, beta = sum min(p, q), the chance that speculative sampling accepts
//   (arXiv 2211.17192). Gradient of 1 - beta divided by beta, so it does not vanish where p and q
//   hardly meet. LK losses (arXiv 2602.23881), there the negative log acceptance.
// overlap-blend: w (-sum p log q) + (1 - w)(1 - beta), w = exp(-3 beta), a constant of the row: KL
//   while they hardly meet, then total variation. LK losses, there the hybrid.
//
// The discard term (arXiv 2602.06932) is forward-kl on the refused branches, times lambda, over the
// top k of the row's law (our reading of its filter: the tail of a law that no served text follows
// is mostly noise). See make_discard_objective.
#pragma once

#include <torch/types.h>

#include <memory>

#include "train/learner.h"

namespace aurora {

// Rows of one loss term. Types: ids, served and column int64, everything else the draft's own float
// type.
struct LawBatch {
  at::Tensor ids;      // [rows, k] draft indices by falling p; outside the vocabulary 0, with p = 0
  at::Tensor probs;    // [rows, k] p
  at::Tensor weights;  // [rows] the row's share of the loss
  at::Tensor rest;     // [rows] what the record's top k leave to all other tokens
  at::Tensor served;   // [rows] draft index of the served token, -1: outside, or none
  at::Tensor column;   // [rows] where rows are by column, undefined elsewhere
};

// What an objective wants to see.
struct RowNeeds {
  bool by_column = false;    // a column's rows side by side, from step 0 without a gap, in one call
  bool served = false;       // rows count by their served token instead of the mass of their law
  bool own_weights = false;  // no step decay: it weighs the steps itself
};

// In: logits [rows, V], overwritten with d(loss)/d(logits); out: sum of weights * loss of the rows,
// never negative. Stateless.
class Objective {
 public:
  virtual ~Objective() = default;
  virtual RowNeeds needs() const { return {}; }
  virtual double loss_and_grad(at::Tensor& logits, const LawBatch& law) const = 0;
};

// reach_weights: rows of step k also weigh by the chance that serving gets there, prod_{j<k} p_j
// (argmax q_j), taken as a constant. Without effect on accept-len, which contains it.
std::unique_ptr<Objective> make_objective(ObjectiveKind kind, bool reach_weights = false);

// top_k 0: all that the record has.
std::unique_ptr<Objective> make_discard_objective(int top_k);

}  // namespace aurora
