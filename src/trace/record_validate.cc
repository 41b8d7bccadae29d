// What a record must be to be written, and to be believed when it was read.
#include <cmath>

#include "trace/record.h"

namespace aurora {
namespace {

constexpr int32_t kTapLayerMax = 4096;
constexpr float kLogprobMax = 1e-3f;  // zero but for rounding

Status broken(const char* what) { return Status::corrupt(std::string("record: ") + what); }

Status validate_tokens(const TraceRecord& r) {
  if (r.tokens.size() > static_cast<size_t>(kRecordTokensMax)) return broken("too many tokens");
  if (r.cut_before != 0 || r.mid_answer) return broken("is a piece of one");
  if (r.prompt_tokens < 1 || r.served_tokens() < 1) {
    return broken("needs at least one prompt token and one served token");
  }
  for (const int32_t token : r.tokens) {
    if (token < 0) return broken("a token is negative");
  }
  return Status::ok();
}

Status validate_labels(const TraceRecord& r) {
  if (r.created_ms < 0 || r.expires_ms < 0) return broken("a time is negative");
  for (const std::string* label : {&r.target, &r.tenant, &r.domain}) {
    if (label->size() > kLabelBytesMax) return broken("target, tenant or domain is too long");
  }
  const SamplingParams& s = r.sampling;
  if (!std::isfinite(s.temperature) || !std::isfinite(s.top_p) || !std::isfinite(s.min_p)) {
    return broken("a sampling parameter is not finite");
  }
  if (r.target_steps < 0) return broken("the number of target steps is negative");
  return Status::ok();
}

Status validate_taps(const TraceRecord& r) {
  if (r.hidden < 1 || r.hidden > kHiddenMax) return broken("hidden size out of range");
  if (r.tap_type != TapType::kF16) return broken("unknown tap type");
  for (const int32_t layer : r.tap_layers) {
    if (layer < 0 || layer > kTapLayerMax) return broken("a tap layer is out of range");
  }
  const size_t row_taps = static_cast<size_t>(r.hidden) * kTapCount;
  if (r.taps.size() != static_cast<size_t>(r.rows()) * row_taps) {
    return broken("taps are not [rows, 3, hidden]");
  }
  if (r.refused_taps.size() != r.refused.size() * row_taps) {
    return broken("refused taps are not [refused, 3, hidden]");
  }
  return Status::ok();
}

Status validate_laws(const LawRows& laws, size_t rows) {
  if (rows == 0) {
    return laws.ids.empty() && laws.logprobs.empty() && laws.k >= 0 && laws.k <= kLawTopMax
               ? Status::ok()
               : broken("laws for rows that are not there");
  }
  if (laws.k < 1 || laws.k > kLawTopMax) return broken("k of a law is out of range");
  const size_t k = static_cast<size_t>(laws.k);
  if (laws.ids.size() != rows * k || laws.logprobs.size() != rows * k) {
    return broken("laws are not [rows, k]");
  }
  for (size_t i = 0; i < laws.ids.size(); ++i) {
    if (laws.ids[i] < 0) return broken("a token of a law is negative");
    // The comparison is written so that a NaN fails it.
    const float above = i % k == 0 ? kLogprobMax : laws.logprobs[i - 1];
    if (!(laws.logprobs[i] <= above) || !std::isfinite(laws.logprobs[i])) {
      return broken("log-probabilities of a law do not fall from zero");
    }
  }
  return Status::ok();
}

Status validate_step(const TraceRecord& r, const VerifyStep& step) {
  const int64_t end = static_cast<int64_t>(r.tokens.size());  // L + 1
  if (step.first < r.prompt_tokens || step.first >= end) return broken("a step is out of range");
  if (step.draft_version < 0) return broken("a draft version is negative");
  if (step.drafted.size() > UINT16_MAX) return broken("a step drafted too many tokens");
  if (step.draft_probs.size() != step.drafted.size()) {
    return broken("a step has not one probability for each drafted token");
  }
  if (step.accepted > step.drafted.size() || step.first + int64_t{step.accepted} > end) {
    return broken("a step accepted more than it drafted or the request served");
  }
  for (size_t i = 0; i < step.drafted.size(); ++i) {
    if (step.drafted[i] < 0) return broken("a drafted token is negative");
    if (!(step.draft_probs[i] >= 0.0f && step.draft_probs[i] <= 1.0f + kLogprobMax)) {
      return broken("a draft probability is not one");
    }
    if (i < step.accepted && step.drafted[i] != r.tokens[static_cast<size_t>(step.first) + i]) {
      return broken("an accepted token was not served");
    }
  }
  return Status::ok();
}

Status validate_refused(const TraceRecord& r) {
  for (size_t i = 0; i < r.refused.size(); ++i) {
    const RefusedRow& row = r.refused[i];
    if (row.step < 0 || static_cast<size_t>(row.step) >= r.steps.size()) {
      return broken("a refused row names no step");
    }
    const VerifyStep& step = r.steps[static_cast<size_t>(row.step)];
    const bool begins_step = i == 0 || r.refused[i - 1].step != row.step;
    if (begins_step && i > 0 && r.refused[i - 1].step > row.step) {
      return broken("refused rows are not in the order of their steps");
    }
    const int64_t expected =
        begins_step ? int64_t{step.first} + step.accepted : int64_t{r.refused[i - 1].position} + 1;
    if (row.position != expected) return broken("refused rows of a step are not consecutive");
    if (begins_step && row.position > r.rows()) return broken("a refused row has no sibling");
    const int64_t in_step = int64_t{row.position} - step.first;
    if (in_step >= static_cast<int64_t>(step.drafted.size()) ||
        step.drafted[static_cast<size_t>(in_step)] != row.token) {
      return broken("a refused row is not what the step drafted");
    }
  }
  return Status::ok();
}

}  // namespace

Status validate(const TraceRecord& record) {
  if (Status s = validate_tokens(record); !s) return s;
  if (Status s = validate_labels(record); !s) return s;
  if (Status s = validate_taps(record); !s) return s;
  if (Status s = validate_laws(record.laws, static_cast<size_t>(record.served_tokens())); !s) {
    return s;
  }
  for (const VerifyStep& step : record.steps) {
    if (Status s = validate_step(record, step); !s) return s;
  }
  if (Status s = validate_refused(record); !s) return s;
  return validate_laws(record.refused_laws, record.refused.size());
}

}  // namespace aurora
