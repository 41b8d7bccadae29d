// Whether a candidate draft is better than the one in service: by replaying the drafting itself on
// held-out requests.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/learner.h"

namespace aurora {

struct ReplayScore {
  int64_t tokens = 0;  // generated
  int64_t steps = 0;   // target decode steps, the prefill's one included
  double accept_len() const {
    return steps == 0 ? 1.0 : static_cast<double>(tokens) / static_cast<double>(steps);
  }
};

// One request of `served` tokens: the prefill gives the first token; then each step at column t =
// P-1+i serves 1 + lead(i) tokens. leads: served - 1 entries.
ReplayScore walk(const Leads& leads, int served);

// Per record, in order. before: asked about each one first; false leaves off (unavailable).
using BeforeReplay = std::function<bool(const TraceRecord&)>;
Result<std::vector<ReplayScore>> replay(Scorer& scorer, RecordRefs records, int depth,
                                        const BeforeReplay& before = {});
ReplayScore total(const std::vector<ReplayScore>& scores);

struct GateDecision {
  bool publish = false;
  double candidate = 1.0;  // accept length on the holdout
  double in_service = 1.0;
  std::string reason;  // one sentence
};

// in_service empty: no draft serves yet, the candidate must come out above pays_above. Otherwise
// paired by record: the steps saved must exceed `sigmas` standard errors of their sum over the
// records.
struct GateOptions {
  double pays_above = 1.0;
  double sigmas = 0.5;  // an equal draft does no harm, a better one kept back does; few records are
                        // held out early on
};
GateDecision decide(const std::vector<ReplayScore>& candidate,
                    const std::vector<ReplayScore>& in_service, const GateOptions& options);

}  // namespace aurora
