// The forward over paths and branches against one dense sequence: every entry of a request in one
// matrix, one mask of rows x rows that says who is an ancestor of whom, float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <random>

#include "train/eagle3_forward.h"
#include "train/head_loss.h"
#include "train/toy_training.h"

namespace aurora {
namespace {

using at::Tensor;

constexpr int kSteps = 4;

struct Sample {
  TraceRecord record;
  BranchList nodes;
};

// A random tree over refused rows that hang on random rows of the path; chains are among them.
Sample random_sample(uint64_t id, int prompt_tokens, int served_tokens, int nodes) {
  Sample s;
  s.record = toy_record({.id = id, .prompt_tokens = prompt_tokens, .served_tokens = served_tokens});
  std::mt19937 rng(static_cast<uint32_t>(id) * 31 + 5);
  const auto below = [&rng](int n) { return static_cast<int>(rng() % static_cast<uint32_t>(n)); };
  for (int i = 0; i < nodes; ++i) {
    const int parent = rng() % 2 == 0 ? i - 1 : below(i + 1) - 1;
    const int position = parent < 0 ? prompt_tokens + below(served_tokens)  // t = P-1 ... L-1
                                    : s.record.refused[static_cast<size_t>(parent)].position + 1;
    add_step(s.record, {.first = position, .refused = {below(kToyVocab)}});
    s.nodes.push_back({parent, i});
  }
  return s;
}

std::vector<Sample> samples() {
  return {random_sample(1, 5, 7, 9), random_sample(2, 1, 3, 6), random_sample(3, 9, 2, 0),
          random_sample(4, 3, 40, 25), random_sample(5, 2, 38, 12)};
}

PackedBatch pack_samples(const std::vector<Sample>& all, const DraftWeights& w) {
  std::vector<const TraceRecord*> refs;
  for (const Sample& s : all) refs.push_back(&s.record);
  PackOptions options;
  options.steps = kSteps;
  options.branches = [&all](const TraceRecord& r) {
    for (const Sample& s : all)
      if (&s.record == &r) return s.nodes;
    return BranchList{};
  };
  auto batch = pack(refs, index_vocab(w.d2t), ToyRows(w.shape.hidden), options);
  EXPECT_TRUE(batch.is_ok());
  return std::move(*batch);
}

// One request as entries: rows 0 ... L-2 of the path, then the nodes.
class Dense {
 public:
  Dense(const Eagle3& draft, const Sample& sample) : w_(draft), s_(sample) {
    const TraceRecord& r = sample.record;
    rows_ = r.rows() - 1;
    const auto size = static_cast<size_t>(rows_) + sample.nodes.size();
    children_.resize(size);
    for (int t = 0; t < rows_; ++t) add(t - 1, t, r.taps, t);
    for (const BranchNode& node : sample.nodes) {
      const int t = r.refused[static_cast<size_t>(node.refused)].position - 1;
      const bool fork = node.parent < 0;
      const int parent_row = fork ? 0 : s_.nodes[static_cast<size_t>(node.parent)].refused;
      const int here = static_cast<int>(parent_.size());
      // A fork hangs below row t-1: it is a sibling of row t.
      const int parent = fork ? t - 1 : rows_ + node.parent;
      if (!fork) children_[static_cast<size_t>(parent)].push_back(here);
      add(parent, t, fork ? r.taps : r.refused_taps, fork ? t : parent_row);
    }
  }

  int rows() const { return rows_; }

  // States after output_norm, [entries, D] for each step.
  std::vector<Tensor> run() const {
    const auto size = static_cast<int64_t>(parent_.size());
    const double hidden = -std::numeric_limits<double>::infinity();
    Tensor tree = at::full({size, size}, hidden, at::kDouble);
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = i; j >= 0; j = parent_[static_cast<size_t>(j)]) tree[i][j] = 0;
    const Tensor own = at::eye(size, at::kDouble).log();  // 0 on the diagonal, -inf elsewhere
    Tensor state = at::linear(at::stack(taps_, 0), w_[kFc]);
    std::vector<Tensor> keys, values, out;
    Tensor mask = tree;
    for (int k = 0; k < kSteps; ++k) {
      if (k > 0) mask = at::cat({mask, own}, 1);
      state = layer(state, k, keys, values, mask);
      out.push_back(norm(state, w_[kOutputNorm]));
    }
    return out;
  }

  // Token that entry i embeds at step k, -1: none is left.
  int32_t token(int i, int k) const {
    if (i < rows_) {
      const auto at = static_cast<size_t>(i + 1 + k);
      return at < s_.record.tokens.size() ? s_.record.tokens[at] : -1;
    }
    for (; k > 0; --k) {
      const auto& below = children_[static_cast<size_t>(i)];
      if (below.empty()) return -1;
      i = below.front();
    }
    const BranchNode& node = s_.nodes[static_cast<size_t>(i - rows_)];
    return s_.record.refused[static_cast<size_t>(node.refused)].token;
  }

 private:
  void add(int parent, int position, const std::vector<uint16_t>& taps, int row) {
    parent_.push_back(parent);
    position_.push_back(position);
    std::vector<double> tap;
    for (int i = 0; i < 3 * s_.record.hidden; ++i)
      tap.push_back(half_to_float(taps[static_cast<size_t>(row * 3 * s_.record.hidden + i)]));
    taps_.push_back(at::tensor(tap, at::kDouble));
  }

  Tensor norm(const Tensor& x, const Tensor& weight) const {
    const double eps = double{w_.shape.rms_eps};
    return x / (x.pow(2).mean(-1, true) + eps).sqrt() * weight;
  }

  // [entries, heads, dim]: pairs (2i, 2i+1) as complex numbers, turned by their angle.
  Tensor turn(const Tensor& x, int k) const {
    const DraftShape& shape = w_.shape;
    Tensor out = x.clone();
    for (int64_t entry = 0; entry < x.size(0); ++entry) {
      for (int pair = 0; pair < shape.head_dim / 2; ++pair) {
        const double power = std::pow(double{shape.rope_base}, -2.0 * pair / shape.head_dim);
        const double angle = (position_[static_cast<size_t>(entry)] + k) * power;
        const Tensor a = x[entry].select(-1, 2 * pair), b = x[entry].select(-1, 2 * pair + 1);
        out[entry].select(-1, 2 * pair).copy_(a * std::cos(angle) - b * std::sin(angle));
        out[entry].select(-1, 2 * pair + 1).copy_(a * std::sin(angle) + b * std::cos(angle));
      }
    }
    return out;
  }

  Tensor layer(const Tensor& g, int k, std::vector<Tensor>& keys, std::vector<Tensor>& values,
               const Tensor& mask) const {
    const DraftShape& shape = w_.shape;
    const auto size = static_cast<int64_t>(parent_.size());
    std::vector<int32_t> tokens;
    for (int i = 0; i < size; ++i) tokens.push_back(std::max(token(i, k), 0));
    std::vector<float> rows(tokens.size() * static_cast<size_t>(shape.hidden));
    EXPECT_TRUE(ToyRows(shape.hidden).token_rows(tokens, rows.data()).is_ok());
    const Tensor e = at::tensor(rows, at::kFloat).to(at::kDouble).view({size, shape.hidden});
    const Tensor z = at::cat({norm(e, w_[kAttnNorm]), norm(g, w_[kHiddenNorm])}, -1);
    const Tensor q = turn(at::linear(z, w_[kWq]).view({size, shape.heads, shape.head_dim}), k);
    keys.push_back(turn(at::linear(z, w_[kWk]).view({size, shape.kv_heads, shape.head_dim}), k));
    values.push_back(at::linear(z, w_[kWv]).view({size, shape.kv_heads, shape.head_dim}));
    const Tensor all_keys = at::cat(keys, 0), all_values = at::cat(values, 0);
    std::vector<Tensor> heads;
    for (int head = 0; head < shape.heads; ++head) {
      const int kv = head / (shape.heads / shape.kv_heads);
      const Tensor scores = at::mm(q.select(1, head), all_keys.select(1, kv).t());
      const Tensor probs = (scores / std::sqrt(double(shape.head_dim)) + mask).softmax(-1);
      heads.push_back(at::mm(probs, all_values.select(1, kv)));
    }
    const Tensor h = g + at::linear(at::cat(heads, -1), w_[kWo]);
    const Tensor u = norm(h, w_[kFfnNorm]);
    return h + at::linear(at::silu(at::linear(u, w_[kGate])) * at::linear(u, w_[kUp]), w_[kDown]);
  }

  const Eagle3& w_;
  const Sample& s_;
  int rows_ = 0;
  std::vector<int> parent_, position_;
  std::vector<std::vector<int>> children_;
  std::vector<Tensor> taps_;
};

DraftWeights toy() { return toy_draft(toy_shape(), first_ids(kToyVocab), 3); }

Eagle3 with_grad(const DraftWeights& weights) {
  Eagle3 draft = eagle3_from(weights, at::kDouble);
  draft.context_grad = true;
  for (size_t i = 0; i < kTensorCount; ++i)
    if (i != kOutput) draft.p[i].set_requires_grad(true);
  return draft;
}

// Calls f(step, query in the packed batch, entry of its request's dense sequence) where a label is
// left.
template <typename F>
void for_each_labelled(const PackedBatch& batch, size_t request, const Dense& dense, F&& f) {
  const PackedRequest& r = batch.requests[request];
  for (int k = 0; k < kSteps; ++k) {
    for (int i = 0; i < r.queries + r.nodes; ++i) {
      const bool node = i >= r.queries;
      const int query = node ? batch.path_queries() + r.node0 + i - r.queries : r.query0 + i;
      const int entry = node ? r.rows + i - r.queries : r.rows - r.queries + i;
      const bool labelled = batch.query_law[static_cast<size_t>(k * batch.queries + query)] >= 0;
      // The path's last token has a law of its own but nothing behind it to predict.
      EXPECT_EQ(labelled, dense.token(entry, k + (node ? 0 : 1)) >= 0) << query << " step " << k;
      if (labelled) f(k, query, entry);
    }
  }
}

void expect_same_gradients(const Eagle3& draft, const Tensor& loss, const Tensor& expected) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < kTensorCount; ++i)
    if (i != kOutput) inputs.push_back(draft.p[i]);
  const auto ours = torch::autograd::grad({loss}, inputs);
  const auto theirs = torch::autograd::grad({expected}, inputs);
  for (size_t i = 0; i < ours.size(); ++i)
    EXPECT_LT((ours[i] - theirs[i]).abs().max().item<double>(),
              1e-10 * (1 + theirs[i].abs().max().item<double>()))
        << "tensor " << i;
}

// Tolerance: float64 on both sides, other order of additions.
TEST(Tree, StatesAndGradientsAreThoseOfADenseMask) {
  const DraftWeights weights = toy();
  const std::vector<Sample> all = samples();
  const Eagle3 draft = with_grad(weights);
  const PackedBatch batch = pack_samples(all, weights);
  const auto states =
      eagle3_forward(draft, batch, to_tensors(batch, draft.shape, at::kDouble), kSteps);
  const Tensor pull = at::linspace(-1, 1, draft.shape.hidden, at::kDouble);
  Tensor loss = at::zeros({}, at::kDouble), dense_loss = at::zeros({}, at::kDouble);
  int compared = 0;
  for (size_t s = 0; s < all.size(); ++s) {
    const Dense dense(draft, all[s]);
    const std::vector<Tensor> expected = dense.run();
    for_each_labelled(batch, s, dense, [&](int k, int query, int entry) {
      const Tensor ours = states[static_cast<size_t>(k)][query];
      const Tensor theirs = expected[static_cast<size_t>(k)][entry];
      EXPECT_LT((ours - theirs).abs().max().item<double>(), 1e-11) << s << " " << query << " " << k;
      loss = loss + (ours * pull).sum();
      dense_loss = dense_loss + (theirs * pull).sum();
      ++compared;
    });
  }
  EXPECT_GT(compared, 300);
  expect_same_gradients(draft, loss, dense_loss);
}

struct Gradient {
  double loss = 0;
  std::vector<Tensor> grads;
};

// Of one term, times the number of its rows: then it adds up over samples.
Gradient gradient(const DraftWeights& weights, const std::vector<Sample>& all,
                  const Objective& objective, bool branches) {
  Eagle3 draft = with_grad(weights);
  const PackedBatch batch = pack_samples(all, weights);
  const RowOptions options = {.branches = branches, .step_decay = 0.8};
  const std::vector<int64_t> columns = all_columns(batch);
  const LossTerm term = {objective, counting_rows(batch, {0, kSteps, columns}, options,
                                                  objective.needs(), at::kDouble)};
  Gradient out;
  for (size_t i = 0; i < kTensorCount; ++i) out.grads.push_back(at::zeros_like(draft.p[i]));
  if (term.rows.rows == 0) return out;
  const auto steps =
      eagle3_forward(draft, batch, to_tensors(batch, draft.shape, at::kDouble), kSteps);
  const Tensor states = at::cat(steps, 0).index_select(0, term.rows.index);
  Tensor grad_head = at::zeros_like(draft[kOutput]);
  const HeadLoss head = head_loss({&term, 1}, states.detach(), draft[kOutput], grad_head);
  torch::autograd::backward({states}, {head.grad_states});
  const double rows = term.rows.rows;
  out.loss = head.loss * rows;
  for (size_t i = 0; i < kTensorCount; ++i) {
    const Tensor grad = i == kOutput ? grad_head : draft.p[i].grad();
    if (grad.defined()) out.grads[i] = grad * rows;
  }
  return out;
}

void expect_packed_is_alone(const Objective& objective, bool branches) {
  const DraftWeights weights = toy();
  const std::vector<Sample> all = samples();
  const Gradient packed = gradient(weights, all, objective, branches);
  Gradient sum;
  for (size_t i = 0; i < kTensorCount; ++i) sum.grads.push_back(at::zeros_like(packed.grads[i]));
  for (const Sample& sample : all) {
    const Gradient alone = gradient(weights, {sample}, objective, branches);
    sum.loss += alone.loss;
    for (size_t i = 0; i < kTensorCount; ++i) sum.grads[i] += alone.grads[i];
  }
  EXPECT_GT(packed.loss, 1);
  EXPECT_NEAR(packed.loss, sum.loss, 1e-10 * packed.loss);
  for (size_t i = 0; i < kTensorCount; ++i)
    EXPECT_LT((packed.grads[i] - sum.grads[i]).abs().max().item<double>(), 1e-10) << i;
}

// More rows than one chunk of the head: no objective may notice where it is cut.
TEST(Tree, APackedBatchEqualsItsSamplesAlone) {
  for (auto kind :
       {ObjectiveKind::kForwardKl, ObjectiveKind::kReverseKl, ObjectiveKind::kCrossEntropy,
        ObjectiveKind::kAcceptLen, ObjectiveKind::kAcceptLenGreedy, ObjectiveKind::kOverlapNla,
        ObjectiveKind::kOverlapBlend}) {
    for (bool reach : {false, true}) {
      SCOPED_TRACE("kind " + std::to_string(static_cast<int>(kind)) + (reach ? " reach" : ""));
      expect_packed_is_alone(*make_objective(kind, reach), false);
    }
  }
  expect_packed_is_alone(*make_discard_objective(2), true);
}

// Columns that stop after a step leave the others' states and gradients as they are.
TEST(Tree, ColumnsThatGoOnAloneAreThoseOfAllColumns) {
  const DraftWeights weights = toy();
  const std::vector<Sample> all = samples();
  const Eagle3 draft = with_grad(weights);
  const PackedBatch batch = pack_samples(all, weights);
  const BatchTensors tensors = to_tensors(batch, draft.shape, at::kDouble);
  const auto expected = eagle3_forward(draft, batch, tensors, kSteps);
  Eagle3Forward forward(draft, batch, tensors);
  std::mt19937 rng(3);
  Tensor loss = at::zeros({}, at::kDouble), all_loss = at::zeros({}, at::kDouble);
  const Tensor pull = at::linspace(-1, 1, draft.shape.hidden, at::kDouble);
  for (int k = 0; k < kSteps; ++k) {
    const Tensor states = forward.next();
    const std::vector<int64_t> columns = forward.columns();
    ASSERT_EQ(states.size(0), static_cast<int64_t>(columns.size()));
    const Tensor theirs = expected[static_cast<size_t>(k)].index_select(0, at::tensor(columns));
    EXPECT_LT((states - theirs).abs().max().item<double>(), 1e-11) << "step " << k;
    loss = loss + (states * pull).sum();
    all_loss = all_loss + (theirs * pull).sum();
    std::vector<int64_t> places;
    for (size_t i = 0; i < columns.size(); ++i)
      if (rng() % 3 != 0 || i == 0) places.push_back(static_cast<int64_t>(i));
    forward.keep(places);
  }
  EXPECT_GT(forward.columns().back(), batch.path_queries());  // nodes are among them
  expect_same_gradients(draft, loss, all_loss);
}

// A node whose fork has no row before it sees itself alone.
TEST(Tree, ANodeAtTheFirstRowIsFinite) {
  const DraftWeights weights = toy();
  Sample s = random_sample(7, 1, 4, 0);
  add_step(s.record, {.first = 1, .refused = {30}});  // t = 0
  s.nodes = {{-1, 0}};
  const Gradient g = gradient(weights, {s}, *make_discard_objective(0), true);
  EXPECT_GT(g.loss, 0);
  for (const Tensor& grad : g.grads) EXPECT_TRUE(grad.isfinite().all().item<bool>());
  const PackedBatch batch = pack_samples({s}, weights);
  EXPECT_EQ(batch.node_prefix[0], 0);
}

}  // namespace
}  // namespace aurora
