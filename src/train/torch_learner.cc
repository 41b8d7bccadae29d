// Learner over LibTorch: pack, forward, objective, backward; what is learnt lies in TrainedWeights.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <numeric>

#include "train/eagle3_forward.h"
#include "train/head_loss.h"
#include "train/heap.h"
#include "train/rank_group.h"
#include "train/torch_scorer.h"
#include "train/torch_threads.h"
#include "train/trained_weights.h"
#include "train/window.h"

namespace aurora {
namespace {

using at::Tensor;

// Uniform noise of deviation share * root mean square, for each of the three taps of a row.
void add_noise(Tensor& taps, double share) {
  const Tensor by_tap = taps.view({taps.size(0), kTapCount, -1});
  const Tensor level = by_tap.square().mean(-1, true).sqrt() * (share * std::sqrt(12.0));
  taps = (by_tap + (at::rand_like(by_tap) - 0.5) * level).view({taps.size(0), -1});
}

LearnOptions with_rates(LearnOptions options, int hidden) {
  for (float* rate : {&options.lr_fc, &options.lr_layer, &options.lr_head})
    if (*rate == LearnOptions::kDefaultRate) *rate = default_rate(hidden);
  return options;
}

class TorchLearner final : public Learner {
 public:
  TorchLearner(const DraftWeights& start, const TargetRows& rows, const LearnOptions& options,
               RankGroup* ranks)
      : rows_(rows),
        options_(with_rates(options, start.shape.hidden)),
        ranks_(ranks),
        objective_(make_objective(options.objective, options.reach_weights)),
        discard_(make_discard_objective(options.discard_top_k)),
        weights_(start, rows, options_) {
    set_torch_threads(options.threads);
    keep_freed_memory();
  }

  Result<LearnResult> learn(RecordRefs records) override {
    return guarded("training step", [&] { return learn_or_throw(records); });
  }

  Result<std::vector<Leads>> leads(RecordRefs records, int depth) override {
    return guarded("score", [&]() -> Result<std::vector<Leads>> {
      return score(weights_.served(), weights_.vocab(), rows_, records, options_, depth);
    });
  }

  DraftWeights snapshot() const override { return eagle3_to(weights_.served(), weights_.d2t()); }
  const std::vector<int64_t>& vocab() const override { return weights_.d2t(); }
  Status set_vocab(std::vector<int64_t> d2t) override { return weights_.set_vocab(std::move(d2t)); }
  void keep_good() override { weights_.keep_good(); }
  bool go_back() override { return weights_.go_back(); }
  uint64_t checksum() const override { return weights_.checksum(); }
  SavedLearner save() const override { return weights_.save(); }
  Status load(std::span<const std::byte> bytes) override { return weights_.load(bytes); }

 private:
  using Gradients = TrainedWeights::Gradients;
  using Norms = std::array<int, 2>;  // rows of step 0 that count: of paths, of branches

  Result<LearnResult> learn_or_throw(RecordRefs records);
  Status note_newest_version(RecordRefs records);
  Result<PackedBatch> packed(RecordRefs records) const;
  RowOptions row_options(bool branches) const;
  Result<Norms> count_norms(const PackedBatch* batch) const;
  std::vector<LossTerm> loss_terms(const PackedBatch& batch, const RowBlock& block,
                                   const Norms& norms) const;
  std::vector<int64_t> going_on(size_t columns, const Tensor& index,
                                const std::vector<uint8_t>& hit, SmallRng& rng) const;
  struct Backward {
    std::vector<Tensor> states, grads;  // of each block: the rows that count, d(loss)/d(rows)
    Tensor grad_head;
  };
  Result<Backward> run_steps(const PackedBatch& batch, const BatchTensors& tensors,
                             const Norms& norms, LearnResult& result) const;
  Result<LearnResult> gradients(const PackedBatch& batch, const Norms& norms, Gradients& grads);
  Status add_results(LearnResult& result) const;
  Status add_gradients(Gradients& grads) const;
  uint64_t draw_seed() const;

  const TargetRows& rows_;
  const LearnOptions options_;
  RankGroup* const ranks_;  // nullptr: alone
  const std::unique_ptr<Objective> objective_, discard_;
  TrainedWeights weights_;
  int64_t newest_version_ = 0;  // of the drafts whose steps were ever learnt from
};

// The same on all ranks: it decides which branches count.
Status TorchLearner::note_newest_version(RecordRefs records) {
  newest_version_ = std::max(newest_version_, newest_draft_version(records));
  if (!ranks_ || options_.discard_lambda <= 0) return Status::ok();
  const auto version = static_cast<double>(newest_version_);
  const auto all = gather_numbers(*ranks_, {&version, 1});
  if (!all) return all.status();
  for (const auto& of_rank : *all)
    newest_version_ = std::max(newest_version_, static_cast<int64_t>(of_rank[0]));
  return Status::ok();
}

Result<PackedBatch> TorchLearner::packed(RecordRefs records) const {
  if (Status s = check_records(records, weights_.draft().shape); !s) return s;
  PackOptions options;
  options.steps = options_.steps;
  options.context_rows_max = options_.context_rows_max;
  options.prompt_rows_max = options_.prompt_rows_max;
  if (options_.discard_lambda > 0) {
    const int64_t version_min = newest_version_ - options_.branch_versions_max;
    options.branches = [version_min](const TraceRecord& r) { return branch_nodes(r, version_min); };
  }
  return pack(records, weights_.vocab(), rows_, options);
}

RowOptions TorchLearner::row_options(bool branches) const {
  RowOptions rows;
  rows.step_decay = options_.step_decay;
  rows.prompt_weight = options_.prompt_weight;
  rows.branches = branches;
  rows.scale = branches ? options_.discard_lambda : 1.0;
  return rows;
}

// Over all ranks: each divides its losses by what all of them count together, so that the sum of
// the gradients is the gradient of the joined batch.
Result<TorchLearner::Norms> TorchLearner::count_norms(const PackedBatch* batch) const {
  Norms norms = {0, 0};
  if (batch && batch->queries > 0) {
    std::vector<int64_t> columns(static_cast<size_t>(batch->queries));
    std::iota(columns.begin(), columns.end(), 0);
    norms[0] = count_rows(*batch, {0, 1, columns}, row_options(false), objective_->needs());
    norms[1] = count_rows(*batch, {0, 1, columns}, row_options(true), discard_->needs());
  }
  if (!ranks_) return norms;
  const double mine[] = {static_cast<double>(norms[0]), static_cast<double>(norms[1])};
  const auto all = gather_numbers(*ranks_, mine);
  if (!all) return all.status();
  norms = {0, 0};
  for (const auto& of_rank : *all)
    for (size_t i = 0; i < norms.size(); ++i) norms[i] += static_cast<int>(of_rank[i]);
  return norms;
}

// Rows of both terms in the block.
std::vector<LossTerm> TorchLearner::loss_terms(const PackedBatch& batch, const RowBlock& block,
                                               const Norms& norms) const {
  std::vector<LossTerm> terms;
  for (const Objective* objective : {objective_.get(), discard_.get()}) {
    RowOptions rows = row_options(objective == discard_.get());
    rows.norm = norms[terms.size()];
    terms.push_back(
        {*objective, counting_rows(batch, block, rows, objective->needs(), at::kFloat)});
  }
  return terms;
}

// Places among the columns that go on to the next step: those that serving would take there, and a
// share of the others.
std::vector<int64_t> TorchLearner::going_on(size_t columns, const Tensor& index,
                                            const std::vector<uint8_t>& hit, SmallRng& rng) const {
  std::vector<uint8_t> goes(columns, 0);
  const auto* place = index.data_ptr<int64_t>();
  for (size_t i = 0; i < hit.size(); ++i) goes[static_cast<size_t>(place[i])] = hit[i];
  std::vector<int64_t> places;
  for (size_t i = 0; i < columns; ++i)
    if (goes[i] != 0 || rng.chance(options_.unreached_share))
      places.push_back(static_cast<int64_t>(i));
  return places;
}

// Forward and losses. Without a row that counts: no states, and a gradient of zero.
Result<TorchLearner::Backward> TorchLearner::run_steps(const PackedBatch& batch,
                                                       const BatchTensors& tensors,
                                                       const Norms& norms,
                                                       LearnResult& result) const {
  Backward back;
  back.grad_head = at::zeros_like(weights_.draft()[kOutput]);
  Eagle3Forward forward(weights_.draft(), batch, tensors);
  SmallRng rng(draw_seed());
  const int together = objective_->needs().by_column ? options_.steps : 1;
  for (int k = 0; k < options_.steps; k += together) {
    std::vector<Tensor> states;
    for (int j = 0; j < together; ++j) states.push_back(forward.next());
    const auto terms = loss_terms(batch, {k, together, forward.columns()}, norms);
    const Tensor index = rows_of_terms(terms);
    if (!index.defined()) break;
    back.states.push_back(at::cat(states, 0).index_select(0, index));
    const bool some_stop = together == 1 && options_.unreached_share < 1 && k + 1 < options_.steps;
    HeadLoss head =
        head_loss(terms, back.states.back().detach(), weights_.draft()[kOutput], back.grad_head,
                  /*want_hits=*/some_stop);
    if (!std::isfinite(head.loss)) return Status::internal("loss is not finite");
    back.grads.push_back(head.grad_states);
    result.loss += head.loss;
    result.rows += terms[0].rows.rows;
    result.branch_rows += terms[1].rows.rows;
    if (!some_stop) continue;
    const auto places = going_on(forward.columns().size(), index, head.hit, rng);
    if (places.empty()) break;
    forward.keep(places);
  }
  return back;
}

// Another number on every rank: they look at different rows.
uint64_t TorchLearner::draw_seed() const {
  constexpr uint64_t kRankStride = 1ull << 32;
  const auto rank = static_cast<uint64_t>(ranks_ ? ranks_->rank() : 0);
  return options_.seed + static_cast<uint64_t>(weights_.updates()) + rank * kRankStride;
}

// Of these rows alone. Undefined where none counts.
Result<LearnResult> TorchLearner::gradients(const PackedBatch& batch, const Norms& norms,
                                            Gradients& grads) {
  LearnResult result;
  result.columns = batch.queries;
  if (batch.queries == 0) return result;
  BatchTensors tensors = to_tensors(batch, weights_.draft().shape, at::kFloat);
  at::manual_seed(draw_seed());
  if (options_.tap_noise > 0) add_noise(tensors.taps, double{options_.tap_noise});
  auto back = run_steps(batch, tensors, norms, result);
  if (!back) return back.status();
  if (back->states.empty()) return result;  // all masked: zero, not NaN
  torch::autograd::backward(back->states, back->grads);
  for (size_t i = 0; i < kTensorCount; ++i)
    grads[i] = i == kOutput ? back->grad_head : weights_.draft().p[i].grad().contiguous();
  return result;
}

Status TorchLearner::add_results(LearnResult& result) const {
  if (!ranks_) return Status::ok();
  const double mine[] = {result.loss, static_cast<double>(result.rows),
                         static_cast<double>(result.columns),
                         static_cast<double>(result.branch_rows)};
  const auto all = gather_numbers(*ranks_, mine);
  if (!all) return all.status();
  result = {};
  for (const auto& of_rank : *all) {
    result.loss += of_rank[0];
    result.rows += static_cast<int>(of_rank[1]);
    result.columns += static_cast<int>(of_rank[2]);
    result.branch_rows += static_cast<int>(of_rank[3]);
  }
  return Status::ok();
}

// A rank without rows joins with zeros.
Status TorchLearner::add_gradients(Gradients& grads) const {
  if (!ranks_) return Status::ok();
  for (size_t i = 0; i < kTensorCount; ++i) {
    if (!grads[i].defined()) grads[i] = at::zeros_like(weights_.draft().p[i]);
    Status s = ranks_->sum({grads[i].data_ptr<float>(), static_cast<size_t>(grads[i].numel())});
    if (!s) return s;
  }
  return Status::ok();
}

// What fails on this rank alone is kept until the others have its zeros: they wait for it.
Result<LearnResult> TorchLearner::learn_or_throw(RecordRefs records) {
  const auto begin = std::chrono::steady_clock::now();
  if (Status s = note_newest_version(records); !s) return s;
  const auto batch = guarded("batch", [&] { return packed(records); });
  const auto norms = count_norms(batch ? &*batch : nullptr);
  if (!norms) return norms.status();
  Gradients grads;
  const Result<LearnResult> mine =
      batch ? guarded("training step", [&] { return gradients(*batch, *norms, grads); })
            : Result<LearnResult>(batch.status());
  for (Tensor& p : weights_.draft().p) p.mutable_grad().reset();
  LearnResult all = mine ? *mine : LearnResult{};
  if (Status s = add_results(all); !s) return s;
  if (all.rows + all.branch_rows > 0) {
    if (Status s = add_gradients(grads); !s) return s;
    weights_.update(grads);
    all.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  if (!mine) return mine.status();
  return all;
}

}  // namespace

Result<std::unique_ptr<Learner>> make_learner(const DraftWeights& start, const TargetRows& rows,
                                              const LearnOptions& options, RankGroup* ranks) {
  return guarded("learner", [&]() -> Result<std::unique_ptr<Learner>> {
    return std::unique_ptr<Learner>(std::make_unique<TorchLearner>(start, rows, options, ranks));
  });
}

float default_rate(int hidden) {
  constexpr double kRate = 1e-3;
  constexpr double kWidth = 576;  // of the target at which it was measured
  return static_cast<float>(kRate * std::min(1.0, kWidth / std::max(1, hidden)));
}

}  // namespace aurora
