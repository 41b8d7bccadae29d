#include "speculator/version_trial.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace aurora {
namespace {

constexpr double kBlocksMin = 6;
constexpr double kFirstTokensMin = 8;  // of each, before they say anything
constexpr double kStepsOverdue = 4;    // times steps_max

}  // namespace

void VersionTrial::begin() { sides_ = {}; }

void VersionTrial::observe(Side side, const TrialBlock& block) {
  if (block.steps <= 0 || !(block.ms > 0)) return;
  Sums& sums = sides_[side];
  const auto n = static_cast<double>(block.steps);
  const auto horizon = static_cast<double>(options_.horizon);
  const double kept = horizon / (horizon + n);
  for (double* sum :
       {&sums.tokens, &sums.ms, &sums.steps, &sums.blocks, &sums.tokens2, &sums.ms2, &sums.cross})
    *sum *= kept;
  sums.tokens += block.tokens;
  sums.ms += block.ms;
  sums.steps += n;
  sums.blocks += 1;
  sums.tokens2 += block.tokens * block.tokens;
  sums.ms2 += block.ms * block.ms;
  sums.cross += block.tokens * block.ms;
  sums.first_tried += static_cast<double>(block.first_tried);
  sums.first_taken += static_cast<double>(block.first_taken);
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

// Of two shares, pooled.
double VersionTrial::first_z() const {
  const Sums &good = sides_[kGood], &tried = sides_[kNew];
  if (!(good.first_tried > 0) || !(tried.first_tried > 0)) return 0;
  const double all =
      (good.first_taken + tried.first_taken) / (good.first_tried + tried.first_tried);
  const double spread = all * (1 - all) * (1 / good.first_tried + 1 / tried.first_tried);
  if (!(spread > 0)) return 0;
  return (tried.first_taken / tried.first_tried - good.first_taken / good.first_tried) /
         std::sqrt(spread);
}

bool VersionTrial::drafted() const {
  const auto least = static_cast<double>(options_.first_min);
  return sides_[kGood].first_tried >= least && sides_[kNew].first_tried >= least;
}

TrialAdvice VersionTrial::advice() const {
  const Sums &good = sides_[kGood], &tried = sides_[kNew];
  const auto least = static_cast<double>(options_.steps_min);
  if (good.seen < least || tried.seen < least) return TrialAdvice::kGoOn;
  if (good.blocks < kBlocksMin || tried.blocks < kBlocksMin) return TrialAdvice::kGoOn;
  const double difference = z();
  if (difference < options_.z_worse) return TrialAdvice::kPutAway;
  const bool some = std::min(good.first_tried, tried.first_tried) >= kFirstTokensMin;
  const double first = some && difference < 0 ? first_z() : 0;
  if (first < options_.z_worse) return TrialAdvice::kPutAway;
  if (!drafted()) return TrialAdvice::kGoOn;
  if (difference > options_.z_better) return TrialAdvice::kPromote;
  if (tried.seen < static_cast<double>(options_.steps_max)) return TrialAdvice::kGoOn;
  const bool doubtful = difference < options_.z_doubt || first < options_.z_first_doubt;
  return doubtful ? TrialAdvice::kPutAway : TrialAdvice::kPromote;
}

bool VersionTrial::overdue() const {
  return !drafted() && sides_[kNew].seen >= kStepsOverdue * static_cast<double>(options_.steps_max);
}

double VersionTrial::rate(Side side) const {
  return sides_[side].ms > 0 ? sides_[side].tokens / sides_[side].ms : 0;
}

double VersionTrial::accept_len(Side side) const {
  return sides_[side].steps > 0 ? sides_[side].tokens / sides_[side].steps : 0;
}

std::string VersionTrial::explain() const {
  const auto taken = [this](Side side) {
    const Sums& sums = sides_[side];
    return sums.first_tried > 0 ? sums.first_taken / sums.first_tried : 0;
  };
  char text[240];
  std::snprintf(text, sizeof text,
                "%.2f tokens/s over %lld steps and %.0f %% of its first tokens taken, the version "
                "before it %.2f over %lld and %.0f %% in the same time (z = %.1f and %.1f)",
                1000 * rate(kNew), static_cast<long long>(steps(kNew)), 100 * taken(kNew),
                1000 * rate(kGood), static_cast<long long>(steps(kGood)), 100 * taken(kGood),
                sides_[kNew].ms > 0 && sides_[kGood].ms > 0 ? z() : 0.0, first_z());
  return text;
}

}  // namespace aurora
