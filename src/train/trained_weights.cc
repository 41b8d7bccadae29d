#include "train/trained_weights.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "train/optimizer.h"

namespace aurora {
namespace {

using at::Tensor;

Status another_shape() {
  return Status::invalid(
      "checkpoint of another draft shape; give the --train-mlp it was made with, or another "
      "--state directory");
}

// Numbers that one thread takes at a time, whatever the number of threads: the sums stay the same.
constexpr int64_t kPiece = 1 << 16;

void for_pieces(int64_t count, const std::function<void(int64_t begin, int64_t end)>& work) {
  at::parallel_for(0, (count + kPiece - 1) / kPiece, 1, [&](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; ++piece)
      work(piece * kPiece, std::min((piece + 1) * kPiece, count));
  });
}

double squares_of(const Tensor& tensor) {
  const auto* values = tensor.data_ptr<float>();
  std::vector<double> sums(static_cast<size_t>((tensor.numel() + kPiece - 1) / kPiece));
  for_pieces(tensor.numel(), [&](int64_t begin, int64_t end) {
    sums[static_cast<size_t>(begin / kPiece)] =
        sum_of_squares(values + begin, static_cast<size_t>(end - begin));
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

// [ids, hidden] of the target's head.
Result<Tensor> target_head(const TargetRows& target, std::span<const int64_t> ids, int hidden) {
  Tensor rows = at::empty({static_cast<int64_t>(ids.size()), hidden});
  if (Status s = target.head_rows(ids, rows.data_ptr<float>()); !s) return s;
  return rows;
}

}  // namespace

TrainedWeights::TrainedWeights(const DraftWeights& start, const TargetRows& rows,
                               const LearnOptions& options)
    : rows_(rows), options_(options), draft_(eagle3_from(start, at::kFloat)), d2t_(start.d2t) {
  draft_.bf16 = options.bf16;
  draft_.dropout = double{options.dropout};
  vocab_ = index_vocab(d2t_);
  for (size_t i = 0; i < kTensorCount; ++i) {
    m_[i] = at::zeros_like(draft_.p[i]);
    v_[i] = at::zeros_like(draft_.p[i]);
    mean_[i] = draft_.p[i].clone();
    // The head's gradient comes out of head_loss, not of autograd.
    if (i != kOutput) draft_.p[i].set_requires_grad(true);
  }
}

void TrainedWeights::update(Gradients& grads) {
  double squares = 0;
  for (const Tensor& g : grads) squares += squares_of(g);
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
    float *w = draft_.p[i].data_ptr<float>(), *m = m_[i].data_ptr<float>(),
          *v = v_[i].data_ptr<float>();
    const auto* grad = grads[i].data_ptr<float>();
    for_pieces(grads[i].numel(), [&](int64_t begin, int64_t end) {
      adamw_update(
          adamw, {w + begin, grad + begin, m + begin, v + begin, static_cast<size_t>(end - begin)},
          updates_, warm * rate_share_ * rate, static_cast<float>(scale));
    });
  }
  average();
}

// Every few updates, by a weight to match. Over the last quarter of the updates while there are
// few: an early mean must not hold back a draft that learns fast.
void TrainedWeights::average() {
  constexpr int64_t kEvery = 4;
  if (options_.average_updates == 0 || updates_ % kEvery != 0) return;
  const int64_t horizon = std::min<int64_t>(options_.average_updates, updates_ / 4);
  const double share = std::min(1.0, static_cast<double>(kEvery) / static_cast<double>(horizon));
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < kTensorCount; ++i) mean_[i].lerp_(draft_.p[i], share);
}

Eagle3 TrainedWeights::served() const {
  Eagle3 served = draft_;
  if (options_.average_updates > 0) served.p = mean_;
  return served;
}

Status TrainedWeights::set_vocab(std::vector<int64_t> d2t) {
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

void TrainedWeights::keep_good() {
  const at::NoGradGuard no_grad;
  const Eagle3 at_work = served();
  good_ = Good{{}, d2t_};
  for (size_t i = 0; i < kTensorCount; ++i) good_->p[i] = at_work.p[i].to(at::kHalf);
}

bool TrainedWeights::go_back() {
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

uint64_t TrainedWeights::checksum() const {
  uint32_t crc = 0;
  for (const Tensor& p : draft_.p) {
    const std::span<const float> values(p.data_ptr<float>(), static_cast<size_t>(p.numel()));
    crc = crc32c(std::as_bytes(values), crc);
  }
  return crc;
}

// Of each tensor: weights, both moments, and what serves.
SavedLearner TrainedWeights::save() const {
  ByteWriter out;
  out.put<int64_t>(updates_);
  out.put<uint64_t>(d2t_.size());
  out.put_span<int64_t>(d2t_);
  SavedLearner saved = {std::move(out).take(), {}};
  const Eagle3 at_work = served();
  for (size_t i = 0; i < kTensorCount; ++i)
    for (const Tensor& t : {draft_.p[i], m_[i], v_[i], at_work.p[i]})
      saved.arrays.push_back(
          std::as_bytes(std::span(t.data_ptr<float>(), static_cast<size_t>(t.numel()))));
  return saved;
}

Status TrainedWeights::load(std::span<const std::byte> bytes) {
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

}  // namespace aurora
