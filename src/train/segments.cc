#include "train/segments.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"

namespace aurora {
namespace {

int columns_of(const TraceRecord& record) { return record.served_tokens() - 1; }

// Of the record's columns, those of one segment.
struct Columns {
  int begin = 0, end = 0;
};

Columns columns_of_segment(const TraceRecord& record, int segment, int count) {
  const int64_t columns = columns_of(record);
  return {static_cast<int>(columns * segment / count),
          static_cast<int>(columns * (segment + 1) / count)};
}

template <typename T>
std::vector<T> part(const std::vector<T>& values, size_t begin, size_t end) {
  return {values.begin() + static_cast<ptrdiff_t>(begin),
          values.begin() + static_cast<ptrdiff_t>(end)};
}

LawRows part_of_laws(const LawRows& laws, size_t begin, size_t end) {
  const auto k = static_cast<size_t>(laws.k);
  return {laws.k, part(laws.ids, begin * k, end * k), part(laws.logprobs, begin * k, end * k)};
}

// Steps whose first token is in [first, end) of the record's tokens, and their refused rows. `last`
// is the last token of the segment, `start` the first token it keeps.
void cut_steps(const TraceRecord& record, int first, int last, int start, TraceRecord& out) {
  const bool ends_record = last == record.rows();
  const int end = ends_record ? last + 1 : last;  // the token both share begins the next segment
  const auto width = static_cast<size_t>(record.hidden) * kTapCount;
  size_t refused = 0;
  out.refused_laws.k = record.refused_laws.k;
  for (size_t i = 0; i < record.steps.size(); ++i) {
    const size_t rows_begin = refused;
    while (refused < record.refused.size() && record.refused[refused].step == static_cast<int>(i))
      ++refused;
    VerifyStep step = record.steps[i];
    if (step.first < first || step.first >= end) continue;
    const int room = last + 1 - step.first;
    const bool fork_inside = step.accepted < room;
    step.accepted = static_cast<uint16_t>(std::min<int>(step.accepted, room));
    step.first -= start;
    out.steps.push_back(std::move(step));
    if (!fork_inside) continue;
    for (size_t row = rows_begin; row < refused; ++row) {
      const RefusedRow& old = record.refused[row];
      out.refused.push_back(
          {static_cast<int32_t>(out.steps.size()) - 1, old.position - start, old.token});
    }
    const auto taps = part(record.refused_taps, rows_begin * width, refused * width);
    out.refused_taps.insert(out.refused_taps.end(), taps.begin(), taps.end());
    const LawRows laws = part_of_laws(record.refused_laws, rows_begin, refused);
    out.refused_laws.ids.insert(out.refused_laws.ids.end(), laws.ids.begin(), laws.ids.end());
    out.refused_laws.logprobs.insert(out.refused_laws.logprobs.end(), laws.logprobs.begin(),
                                     laws.logprobs.end());
  }
}

}  // namespace

int segment_count(const TraceRecord& record, const SegmentOptions& options) {
  const int each = std::max(1, options.tokens_max - 1);
  return std::max(1, (columns_of(record) + each - 1) / each);
}

bool needs_cut(const TraceRecord& record, const SegmentOptions& options) {
  return segment_count(record, options) > 1 || record.prompt_tokens - 1 > options.context_rows_max;
}

TraceRecord cut_segment(const TraceRecord& record, int segment, const SegmentOptions& options) {
  const int count = segment_count(record, options);
  CHECK(segment >= 0 && segment < count);
  const Columns columns = columns_of_segment(record, segment, count);
  const int first = record.prompt_tokens + columns.begin;  // first and last token it serves
  const int last = record.prompt_tokens + columns.end;
  const int start = std::max(0, first - 1 - options.context_rows_max);
  TraceRecord out;
  out.id = record.id;
  out.created_ms = record.created_ms;
  out.expires_ms = record.expires_ms;
  out.rollout_of = record.rollout_of;
  out.target = record.target;
  out.tenant = record.tenant;
  out.domain = record.domain;
  out.sampling = record.sampling;
  out.hidden = record.hidden;
  out.tap_type = record.tap_type;
  std::copy_n(record.tap_layers, kTapCount, out.tap_layers);
  out.cut_before = record.cut_before + start;
  out.mid_answer = record.mid_answer || columns.begin > 0;
  out.prompt_tokens = first - start;
  out.tokens = part(record.tokens, static_cast<size_t>(start), static_cast<size_t>(last) + 1);
  const auto width = static_cast<size_t>(record.hidden) * kTapCount;
  out.taps =
      part(record.taps, static_cast<size_t>(start) * width, static_cast<size_t>(last) * width);
  out.laws = part_of_laws(record.laws, static_cast<size_t>(columns.begin),
                          static_cast<size_t>(columns.end) + 1);
  cut_steps(record, first, last, start, out);
  out.target_steps = count == 1 ? record.target_steps : 0;
  return out;
}

uint64_t segment_bytes_max(const TraceRecord& record, const SegmentOptions& options) {
  const int count = segment_count(record, options);
  const auto served = static_cast<uint64_t>((columns_of(record) + count - 1) / count + 1);
  const uint64_t context =
      static_cast<uint64_t>(std::min<int64_t>(options.context_rows_max, record.rows()));
  const uint64_t row_bytes = static_cast<uint64_t>(record.hidden) * kTapCount * 2 + 4;
  return (context + served) * row_bytes + served * static_cast<uint64_t>(record.laws.k) * 8 + 512;
}

}  // namespace aurora
