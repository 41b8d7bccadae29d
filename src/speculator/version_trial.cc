#include "speculator/version_trial.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace aurora {
namespace {

constexpr double kBlocksMin = 6;

}  // namespace

void VersionTrial::begin() { sides_ = {}; }

void VersionTrial::observe(Side side, double tokens, double ms, int64_t steps) {
  if (steps <= 0 || !(ms > 0)) return;
  Sums& sums = sides_[side];
  const auto n = static_cast<double>(steps);
  const auto horizon = static_cast<double>(options_.horizon);
  const double kept = horizon / (horizon + n);
  for (double* sum :
       {&sums.tokens, &sums.ms, &sums.steps, &sums.blocks, &sums.tokens2, &sums.ms2, &sums.cross})
    *sum *= kept;
  sums.tokens += tokens;
  sums.ms += ms;
  sums.steps += n;
  sums.blocks += 1;
  sums.tokens2 += tokens * tokens;
  sums.ms2 += ms * ms;
  sums.cross += tokens * ms;
  sums.seen += n;
}

// Sum of (tokens - R ms)^2 over the blocks, divided by (sum ms)^2: the delta method for a ratio.
double VersionTrial::variance(const Sums& s) const {
  const double ratio = s.tokens / s.ms;
  const double residual = s.tokens2 - 2 * ratio * s.cross + ratio * ratio * s.ms2;
  const double floor = 1e-6 * s.tokens2;  // a stream without any spread
  return std::max(residual, floor) / (s.ms * s.ms) * s.blocks / std::max(1.0, s.blocks - 1);
}

double VersionTrial::z() const {
  const Sums &good = sides_[kGood], &tried = sides_[kNew];
  return (tried.tokens / tried.ms - good.tokens / good.ms) /
         std::sqrt(variance(tried) + variance(good));
}

TrialAdvice VersionTrial::advice() const {
  const Sums &good = sides_[kGood], &tried = sides_[kNew];
  const auto least = static_cast<double>(options_.steps_min);
  if (good.seen < least || tried.seen < least) return TrialAdvice::kGoOn;
  if (good.blocks < kBlocksMin || tried.blocks < kBlocksMin) return TrialAdvice::kGoOn;
  const double difference = z();
  if (difference < options_.z_worse) return TrialAdvice::kPutAway;
  if (difference > options_.z_better) return TrialAdvice::kPromote;
  if (tried.seen < static_cast<double>(options_.steps_max)) return TrialAdvice::kGoOn;
  return difference < options_.z_doubt ? TrialAdvice::kPutAway : TrialAdvice::kPromote;
}

double VersionTrial::rate(Side side) const {
  return sides_[side].ms > 0 ? sides_[side].tokens / sides_[side].ms : 0;
}

double VersionTrial::accept_len(Side side) const {
  return sides_[side].steps > 0 ? sides_[side].tokens / sides_[side].steps : 0;
}

std::string VersionTrial::explain() const {
  char text[200];
  std::snprintf(text, sizeof text,
                "%.2f tokens/s over %lld steps, the version before it %.2f over %lld in the same "
                "time (z = %.1f)",
                1000 * rate(kNew), static_cast<long long>(steps(kNew)), 1000 * rate(kGood),
                static_cast<long long>(steps(kGood)),
                sides_[kNew].ms > 0 && sides_[kGood].ms > 0 ? z() : 0.0);
  return text;
}

}  // namespace aurora
