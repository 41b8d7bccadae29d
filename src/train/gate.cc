#include "train/gate.h"

#include <cmath>
#include <cstdio>

namespace aurora {
namespace {

std::string sentence(const char* format, double a, double b) {
  char text[160];
  std::snprintf(text, sizeof(text), format, a, b);
  return text;
}

// Standard error of sum(x) when the records are a sample: sqrt(n * variance).
double error_of_sum(const std::vector<double>& x) {
  if (x.size() < 2) return 0;
  double mean = 0, squares = 0;
  for (double value : x) mean += value / static_cast<double>(x.size());
  for (double value : x) squares += (value - mean) * (value - mean);
  const auto n = static_cast<double>(x.size());
  return std::sqrt(squares * n / (n - 1));
}

}  // namespace

ReplayScore walk(const Leads& leads, int served) {
  if (served <= 0) return {};
  ReplayScore score = {served, 1};
  for (size_t i = 0; i < leads.size(); i += 1u + leads[i]) ++score.steps;
  return score;
}

Result<std::vector<ReplayScore>> replay(Scorer& scorer, RecordRefs records, int depth,
                                        const BeforeReplay& before) {
  std::vector<ReplayScore> out;
  for (const TraceRecord* record : records) {
    if (before && !before(*record)) return Status::unavailable("left off before it was done");
    auto leads = scorer.leads({&record, 1}, depth);
    if (!leads) return leads.status();
    out.push_back(walk((*leads)[0], record->served_tokens()));
  }
  return out;
}

ReplayScore total(const std::vector<ReplayScore>& scores) {
  ReplayScore sum;
  for (const ReplayScore& score : scores) {
    sum.tokens += score.tokens;
    sum.steps += score.steps;
  }
  return sum;
}

GateDecision decide(const std::vector<ReplayScore>& candidate,
                    const std::vector<ReplayScore>& in_service, const GateOptions& options) {
  GateDecision decision;
  decision.candidate = total(candidate).accept_len();
  decision.in_service = total(in_service).accept_len();
  if (candidate.empty()) {
    decision.reason = "no held-out request yet";
    return decision;
  }
  if (in_service.empty()) {
    decision.publish = decision.candidate > options.pays_above;
    decision.reason =
        sentence(decision.publish ? "first draft: replayed accept length %.3f is above %.3f"
                                  : "no draft yet: replayed accept length %.3f is not above %.3f",
                 decision.candidate, options.pays_above);
    return decision;
  }
  CHECK(candidate.size() == in_service.size());
  std::vector<double> saved;
  double sum = 0;
  for (size_t i = 0; i < candidate.size(); ++i) {
    saved.push_back(static_cast<double>(in_service[i].steps - candidate[i].steps));
    sum += saved.back();
  }
  decision.publish = sum > 0 && sum > options.sigmas * error_of_sum(saved);
  decision.reason =
      sentence(decision.publish ? "replayed accept length %.3f beats %.3f of the draft in service"
                                : "replayed accept length %.3f does not beat %.3f beyond noise",
               decision.candidate, decision.in_service);
  return decision;
}

}  // namespace aurora
