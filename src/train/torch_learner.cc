// Learner and Scorer over LibTorch: pack, forward, objective, backward, AdamW.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <exception>
#include <numeric>
#include <optional>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "train/eagle3_forward.h"
#include "train/head_loss.h"
#include "train/heap.h"
#include "train/optimizer.h"
#include "train/rank_group.h"
#include "train/torch_scorer.h"
#include "train/torch_threads.h"
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

Status another_shape() {
  return Status::invalid(
      "checkpoint of another draft shape; give the --train-mlp it was made with, or another "
      "--state directory");
}

// [ids, hidden] of the target's head.
Result<Tensor> target_head(const TargetRows& target, std::span<const int64_t> ids, int hidden) {
  Tensor rows = at::empty({static_cast<int64_t>(ids.size()), hidden});
  if (Status s = target.head_rows(ids, rows.data_ptr<float>()); !s) return s;
  return rows;
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
        discard_(make_discard_objective(options.discard_top_k)) {
    set_torch_threads(options.threads);
    keep_freed_memory();
    draft_ = eagle3_from(start, at::kFloat);
    draft_.bf16 = options.bf16;
    draft_.dropout = double{options.dropout};
    d2t_ = start.d2t;
    vocab_ = index_vocab(d2t_);
    for (size_t i = 0; i < kTensorCount; ++i) {
      m_[i] = at::zeros_like(draft_.p[i]);
      v_[i] = at::zeros_like(draft_.p[i]);
      mean_[i] = draft_.p[i].clone();
      // The head's gradient comes out of head_loss, not of autograd.
      if (i != kOutput) draft_.p[i].set_requires_grad(true);
    }
  }

  Result<LearnResult> learn(RecordRefs records) override {
    return guarded("training step", [&] { return learn_or_throw(records); });
  }

  Result<std::vector<Leads>> leads(RecordRefs records, int depth) override {
    return guarded("score", [&]() -> Result<std::vector<Leads>> {
      return score(served_draft(), vocab_, rows_, records, options_, depth);
    });
  }

  DraftWeights snapshot() const override { return eagle3_to(served_draft(), d2t_); }
  const std::vector<int64_t>& vocab() const override { return d2t_; }
  Status set_vocab(std::vector<int64_t> d2t) override;
  void keep_good() override;
  bool go_back() override;
  uint64_t checksum() const override;
  SavedLearner save() const override;
  Status load(std::span<const std::byte> bytes) override;

 private:
  using Gradients = std::array<Tensor, kTensorCount>;
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
  void update(Gradients& grads);
  void average();
  Eagle3 served_draft() const;

  const TargetRows& rows_;
  const LearnOptions options_;
  RankGroup* const ranks_;  // nullptr: alone
  const std::unique_ptr<Objective> objective_, discard_;
  Eagle3 draft_;
  std::vector<int64_t> d2t_;
  DraftIndex vocab_;
  std::array<Tensor, kTensorCount> m_, v_;
  std::array<Tensor, kTensorCount> mean_;  // of the weights over the last updates, if it serves
  struct Good {
    std::array<Tensor, kTensorCount> p;  // fp16: half a copy
    std::vector<int64_t> d2t;
  };
  std::optional<Good> good_;
  float rate_share_ = 1;  // of the rates, until ...
  int64_t slow_until_ = 0;
  int64_t updates_ = 0;
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
  if (Status s = check_records(records, draft_.shape); !s) return s;
  PackOptions options;
  options.steps = options_.steps;
  options.context_rows_max = options_.context_rows_max;
  options.prompt_rows_max = options_.prompt_rows_max;
  if (options_.discard_lambda > 0) {
    const int64_t version_min = newest_version_ - options_.branch_versions_max;
    options.branches = [version_min](const TraceRecord& r) { return branch_nodes(r, version_min); };
  }
  return pack(records, vocab_, rows_, options);
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
  back.grad_head = at::zeros_like(draft_[kOutput]);
  Eagle3Forward forward(draft_, batch, tensors);
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
    HeadLoss head = head_loss(terms, back.states.back().detach(), draft_[kOutput], back.grad_head,
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
  return options_.seed + static_cast<uint64_t>(updates_) + rank * kRankStride;
}

// Of these rows alone. Undefined where none counts.
Result<LearnResult> TorchLearner::gradients(const PackedBatch& batch, const Norms& norms,
                                            Gradients& grads) {
  LearnResult result;
  result.columns = batch.queries;
  if (batch.queries == 0) return result;
  BatchTensors tensors = to_tensors(batch, draft_.shape, at::kFloat);
  at::manual_seed(draw_seed());
  if (options_.tap_noise > 0) add_noise(tensors.taps, double{options_.tap_noise});
  auto back = run_steps(batch, tensors, norms, result);
  if (!back) return back.status();
  if (back->states.empty()) return result;  // all masked: zero, not NaN
  torch::autograd::backward(back->states, back->grads);
  for (size_t i = 0; i < kTensorCount; ++i)
    grads[i] = i == kOutput ? back->grad_head : draft_.p[i].grad().contiguous();
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
    if (!grads[i].defined()) grads[i] = at::zeros_like(draft_.p[i]);
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
  for (Tensor& p : draft_.p) p.mutable_grad().reset();
  LearnResult all = mine ? *mine : LearnResult{};
  if (Status s = add_results(all); !s) return s;
  if (all.rows + all.branch_rows > 0) {
    if (Status s = add_gradients(grads); !s) return s;
    update(grads);
    all.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  if (!mine) return mine.status();
  return all;
}

void TorchLearner::update(Gradients& grads) {
  double squares = 0;
  for (const Tensor& g : grads)
    squares += sum_of_squares(g.data_ptr<float>(), static_cast<size_t>(g.numel()));
  const double norm = std::sqrt(squares);
  if (!std::isfinite(norm)) return;  // one bad step is dropped, not learnt
  const double scale =
      options_.clip_norm > 0 && norm > options_.clip_norm ? options_.clip_norm / norm : 1.0;
  ++updates_;
  const float warm =
      updates_ < options_.warmup_updates
          ? static_cast<float>(updates_) / static_cast<float>(options_.warmup_updates)
          : 1.0f;
  if (updates_ > slow_until_) rate_share_ = 1;
  for (size_t i = 0; i < kTensorCount; ++i) {
    const bool matrix = draft_.p[i].dim() == 2;
    const AdamW adamw = {options_.beta1, options_.beta2, 1e-8f,
                         matrix ? options_.weight_decay : 0.0f};
    const float rate = i == kFc       ? options_.lr_fc
                       : i == kOutput ? options_.lr_head
                                      : options_.lr_layer;
    adamw_update(
        adamw,
        {draft_.p[i].data_ptr<float>(), grads[i].data_ptr<float>(), m_[i].data_ptr<float>(),
         v_[i].data_ptr<float>(), static_cast<size_t>(grads[i].numel())},
        updates_, warm * rate_share_ * rate, static_cast<float>(scale));
  }
  average();
}

// Every few updates, by a weight to match. Over the last quarter of the updates while there are
// few: an early mean must not hold back a draft that learns fast.
void TorchLearner::average() {
  constexpr int64_t kEvery = 4;
  if (options_.average_updates == 0 || updates_ % kEvery != 0) return;
  const int64_t horizon = std::min<int64_t>(options_.average_updates, updates_ / 4);
  const double share = std::min(1.0, static_cast<double>(kEvery) / static_cast<double>(horizon));
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < kTensorCount; ++i) mean_[i].lerp_(draft_.p[i], share);
}

Eagle3 TorchLearner::served_draft() const {
  Eagle3 served = draft_;
  if (options_.average_updates > 0) served.p = mean_;
  return served;
}

Status TorchLearner::set_vocab(std::vector<int64_t> d2t) {
  if (d2t == d2t_) return Status::ok();
  const auto d = static_cast<size_t>(draft_.shape.hidden);
  Tensor head = at::zeros({static_cast<int64_t>(d2t.size()), draft_.shape.hidden});
  Tensor m = at::zeros_like(head), v = at::zeros_like(head), mean = at::zeros_like(head);
  std::vector<int64_t> fresh, fresh_row;
  for (size_t i = 0; i < d2t.size(); ++i) {
    const auto old = vocab_.find(d2t[i]);
    if (old == vocab_.end()) {
      fresh.push_back(d2t[i]);
      fresh_row.push_back(static_cast<int64_t>(i));
      continue;
    }
    const size_t from = static_cast<size_t>(old->second) * d;
    std::copy_n(draft_[kOutput].data_ptr<float>() + from, d, head.data_ptr<float>() + i * d);
    std::copy_n(m_[kOutput].data_ptr<float>() + from, d, m.data_ptr<float>() + i * d);
    std::copy_n(v_[kOutput].data_ptr<float>() + from, d, v.data_ptr<float>() + i * d);
    std::copy_n(mean_[kOutput].data_ptr<float>() + from, d, mean.data_ptr<float>() + i * d);
  }
  const auto rows = target_head(rows_, fresh, draft_.shape.hidden);
  if (!rows) return rows.status();
  const auto untrained = target_head(rows_, d2t_, draft_.shape.hidden);
  if (!untrained) return untrained.status();
  const Tensor start = untrained->mean(0, false, at::kDouble).to(at::kFloat);
  const Tensor places = longs(fresh_row);
  head.index_copy_(0, places, *rows + (draft_[kOutput].mean(0) - start));
  mean.index_copy_(0, places, *rows + (mean_[kOutput].mean(0) - start));
  draft_.p[kOutput] = head;
  m_[kOutput] = m;
  v_[kOutput] = v;
  mean_[kOutput] = mean;
  d2t_ = std::move(d2t);
  vocab_ = index_vocab(d2t_);
  return Status::ok();
}

void TorchLearner::keep_good() {
  const at::NoGradGuard no_grad;
  const Eagle3 served = served_draft();
  good_ = Good{{}, d2t_};
  for (size_t i = 0; i < kTensorCount; ++i) good_->p[i] = served.p[i].to(at::kHalf);
}

bool TorchLearner::go_back() {
  constexpr int64_t kSlowUpdates = 1000;
  rate_share_ *= 0.5f;
  slow_until_ = updates_ + kSlowUpdates;
  if (!good_) return false;
  const at::NoGradGuard no_grad;
  const std::vector<int64_t> now = std::move(d2t_);
  for (size_t i = 0; i < kTensorCount; ++i) {
    const Tensor good = good_->p[i].to(at::kFloat);
    if (i == kOutput) {
      draft_.p[i] = good;
      for (Tensor* t : {&m_[i], &v_[i], &mean_[i]}) *t = at::zeros_like(good);
    } else {
      draft_.p[i].copy_(good);
    }
    m_[i].zero_();
    v_[i].zero_();
    mean_[i].copy_(good);
  }
  d2t_ = good_->d2t;
  vocab_ = index_vocab(d2t_);
  if (Status s = set_vocab(now); !s) LOG_WARN("train", "%s", s.to_string().c_str());
  return true;
}

uint64_t TorchLearner::checksum() const {
  uint32_t crc = 0;
  for (const Tensor& p : draft_.p) {
    const std::span<const float> values(p.data_ptr<float>(), static_cast<size_t>(p.numel()));
    crc = crc32c(std::as_bytes(values), crc);
  }
  return crc;
}

// Of each tensor: weights, both moments, and what serves.
SavedLearner TorchLearner::save() const {
  ByteWriter out;
  out.put<int64_t>(updates_);
  out.put<uint64_t>(d2t_.size());
  out.put_span<int64_t>(d2t_);
  SavedLearner saved = {std::move(out).take(), {}};
  const Eagle3 served = served_draft();
  for (size_t i = 0; i < kTensorCount; ++i)
    for (const Tensor& t : {draft_.p[i], m_[i], v_[i], served.p[i]})
      saved.arrays.push_back(
          std::as_bytes(std::span(t.data_ptr<float>(), static_cast<size_t>(t.numel()))));
  return saved;
}

Status TorchLearner::load(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  const auto updates = in.get<int64_t>();
  std::vector<int64_t> d2t = in.get_vector<int64_t>(in.get<uint64_t>());
  const std::vector<int64_t> head = {static_cast<int64_t>(d2t.size()), draft_.shape.hidden};
  uint64_t floats = static_cast<uint64_t>(c10::multiply_integers(head));
  for (size_t i = 0; i < kTensorCount; ++i)
    if (i != kOutput) floats += static_cast<uint64_t>(draft_.p[i].numel());
  if (!in.ok() || in.remaining() != floats * 4 * sizeof(float)) return another_shape();
  const std::byte* from = bytes.data() + (bytes.size() - in.remaining());
  for (size_t i = 0; i < kTensorCount; ++i) {
    for (Tensor* t : {&draft_.p[i], &m_[i], &v_[i], &mean_[i]}) {
      if (i == kOutput && t->size(0) != head[0]) *t = at::empty(head, at::kFloat);
      const size_t length = static_cast<size_t>(t->numel()) * sizeof(float);
      std::memcpy(t->data_ptr<float>(), from, length);
      from += length;
    }
  }
  updates_ = updates;
  d2t_ = std::move(d2t);
  vocab_ = index_vocab(d2t_);
  return Status::ok();
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
