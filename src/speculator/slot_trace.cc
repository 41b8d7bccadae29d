#include "speculator/slot_trace.h"

#include <algorithm>
#include <cstddef>

namespace aurora {
namespace {

void append_laws(const LawRows& from, size_t begin, size_t end, LawRows& to) {
  const auto k = static_cast<std::ptrdiff_t>(from.k);
  const auto first = static_cast<std::ptrdiff_t>(begin) * k,
             last = static_cast<std::ptrdiff_t>(end) * k;
  to.ids.insert(to.ids.end(), from.ids.begin() + first, from.ids.begin() + last);
  to.logprobs.insert(to.logprobs.end(), from.logprobs.begin() + first,
                     from.logprobs.begin() + last);
}

// Position of the first known row.
size_t first_known(const std::vector<KeptRowPtr>& rows) {
  const auto known =
      std::find_if(rows.begin(), rows.end(), [](const KeptRowPtr& row) { return row != nullptr; });
  return static_cast<size_t>(known - rows.begin());
}

void cut_laws(LawRows& laws, size_t rows) {
  laws.ids.resize(std::min(laws.ids.size(), rows * static_cast<size_t>(laws.k)));
  laws.logprobs.resize(laws.ids.size());
}

void append_taps(const KeptRow& row, std::vector<uint16_t>& taps) {
  taps.insert(taps.end(), row.taps.begin(), row.taps.end());
}

}  // namespace

void SlotTrace::start(const RequestStart& start, bool capture, int32_t law_count) {
  *this = SlotTrace{};
  active_ = true;
  capture_ = capture;
  request_ = start;
  laws_.k = step_laws_.k = refused_.laws.k = law_count;
}

void SlotTrace::set_draft(std::vector<int32_t> tokens, std::vector<float> probs) {
  drafted_ = std::move(tokens);
  draft_probs_ = std::move(probs);
}

void SlotTrace::step(int32_t first, int64_t draft_version) {
  ++target_steps_;
  step_first_ = first;
  step_version_ = draft_version;
  if (verifying()) return;  // accept() follows
  if (capture_) append_laws(step_laws_, 0, step_laws_.rows(), laws_);
  cut_laws(step_laws_, 0);
}

void SlotTrace::accept(int32_t accepted, KeptRows& rows, size_t refused_max) {
  const auto good = static_cast<size_t>(accepted);
  const size_t first = static_cast<size_t>(step_first_);
  const size_t kept = first + 1 + good;  // x_first and the accepted tokens stay in the KV
  if (capture_ && rows.rows.size() == first + 1 + drafted_.size() &&
      step_laws_.rows() == drafted_.size() + 1) {
    append_laws(step_laws_, 0, good + 1, laws_);
    const size_t refused =
        std::min(drafted_.size() - good, refused_max - std::min(refused_max, refused_.rows.size()));
    for (size_t i = 0; i < refused; ++i) {
      refused_.rows.push_back({static_cast<int32_t>(steps_.size()), static_cast<int32_t>(kept + i),
                               drafted_[good + i]});
      refused_.taps.push_back(rows.rows[kept + i]);
    }
    append_laws(step_laws_, good + 1, good + 1 + refused, refused_.laws);
    steps_.push_back(
        {step_first_ + 1, step_version_, static_cast<uint16_t>(accepted), drafted_, draft_probs_});
  }
  if (rows.rows.size() > kept) rows.rows.resize(kept);
  drafted_.clear();
  cut_laws(step_laws_, 0);
}

int32_t SlotTrace::token_at(size_t position) const {
  return position < request_.prompt.size() ? request_.prompt[position]
                                           : served_[position - request_.prompt.size()];
}

size_t SlotTrace::rows() const {
  const size_t tokens = request_.prompt.size() + served_.size();
  return tokens == 0 ? 0 : tokens - 1;
}

uint64_t SlotTrace::record_bytes(int32_t hidden) const {
  const uint64_t row_bytes = uint64_t{2} * kTapCount * static_cast<uint64_t>(hidden);
  uint64_t bytes = (rows() + refused_.rows.size()) * row_bytes;
  bytes += 4 * (rows() + 1) + 8 * (laws_.ids.size() + refused_.laws.ids.size());
  for (const VerifyStep& step : steps_) bytes += 16 + 8 * step.drafted.size();
  return bytes + 12 * refused_.rows.size();
}

bool SlotTrace::has_rows(const KeptRows& rows) const {
  if (request_.prompt.empty() || served_.empty() || laws_.rows() < served_.size()) return false;
  const size_t needed = this->rows();
  const size_t begin = first_known(rows.rows);
  if (rows.rows.size() < needed || begin >= request_.prompt.size()) return false;
  for (size_t i = begin; i < needed; ++i) {
    if (rows.rows[i]->token != token_at(i)) return false;
  }
  return true;
}

TraceRecord SlotTrace::to_record(const std::vector<KeptRowPtr>& rows, TraceRecord head) const {
  TraceRecord record = std::move(head);
  const size_t last = request_.prompt.size() + served_.size() - 1;  // position of x_L
  const size_t begin = first_known(rows);  // of x_0: what stood before it is not recorded
  const auto shift = static_cast<int32_t>(begin);
  record.tenant = request_.labels.tenant;
  record.domain = request_.labels.domain;
  record.sampling = {request_.temperature, request_.top_p, request_.min_p, request_.top_k,
                     request_.seed};
  record.prompt_tokens = static_cast<int32_t>(request_.prompt.size() - begin);
  record.tokens.assign(request_.prompt.begin() + shift, request_.prompt.end());
  record.tokens.insert(record.tokens.end(), served_.begin(), served_.end());
  record.taps.reserve((last - begin) * rows[begin]->taps.size());
  for (size_t i = begin; i < last; ++i) append_taps(*rows[i], record.taps);
  record.laws.k = laws_.k;
  append_laws(laws_, 0, served_.size(), record.laws);
  record.target_steps = target_steps_;

  // A stop inside an accepted chain leaves steps behind the last served token: their rows have no
  // sibling. Cut.
  for (const VerifyStep& step : steps_) {
    if (static_cast<size_t>(step.first) > last) break;
    record.steps.push_back(step);
    const size_t room = last - static_cast<size_t>(step.first) + 1;
    record.steps.back().accepted = static_cast<uint16_t>(std::min<size_t>(step.accepted, room));
    record.steps.back().first -= shift;
  }
  size_t refused = 0;
  while (refused < refused_.rows.size()) {
    const RefusedRow& row = refused_.rows[refused];
    if (static_cast<size_t>(row.step) >= record.steps.size()) break;
    const VerifyStep& step = steps_[static_cast<size_t>(row.step)];
    if (static_cast<size_t>(step.first) + step.accepted > last) break;
    record.refused.push_back({row.step, row.position - shift, row.token});
    append_taps(*refused_.taps[refused], record.refused_taps);
    ++refused;
  }
  record.refused_laws.k = refused_.laws.k;
  append_laws(refused_.laws, 0, refused, record.refused_laws);
  return record;
}

}  // namespace aurora
