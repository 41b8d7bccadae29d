#include "speculator/gate_live.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace aurora {
namespace {

constexpr double kLookGrowth = 1.5;

// Variance of a version's mean. The floor keeps a stream without any spread (always one token) from
// dividing by zero.
double mean_variance(const LiveGate::Stats& stats) {
  return std::max(stats.variance(), 1e-6) / static_cast<double>(stats.steps);
}

}  // namespace

double LiveGate::Stats::variance() const {
  if (observations < 2) return 0;
  // An observation of s steps has s times the variance of one step, so the sum of (G - s mean)^2 /
  // s over the observations estimates (observations - 1) variances of a single step.
  const double spread = squares - tokens * tokens / static_cast<double>(steps);
  return std::max(spread, 0.0) / static_cast<double>(observations - 1);
}

const LiveGate::Stats* LiveGate::find(int64_t version) const {
  const auto found = std::find_if(stats_.begin(), stats_.end(),
                                  [&](const Stats& s) { return s.version == version; });
  return version == 0 || found == stats_.end() ? nullptr : &*found;
}

LiveGate::Stats& LiveGate::stats(int64_t version) {
  Stats* oldest = nullptr;  // a free entry (version 0) counts as the oldest
  for (Stats& s : stats_) {
    if (s.version == version) return s;
    const bool needed = s.version != 0 && (s.version == last_good_ || s.version == in_service_);
    if (!needed && (oldest == nullptr || s.version < oldest->version)) oldest = &s;
  }
  *oldest = Stats{.version = version};
  return *oldest;
}

void LiveGate::adopt(int64_t version) {
  if (version == in_service_) return;
  in_service_ = version;
  decided_ = version == 0 || version == last_good_;
  look_next_ = options_.steps_min;
  if (version != 0) stats(version);
}

LiveAdvice LiveGate::observe(int64_t version, int64_t generated_tokens, int64_t target_steps) {
  if (version == 0 || target_steps <= 0 || generated_tokens < 0) return LiveAdvice::kNone;
  Stats& now = stats(version);
  const double tokens = static_cast<double>(generated_tokens);
  ++now.observations;
  now.steps += target_steps;
  now.tokens += tokens;
  now.squares += tokens * tokens / static_cast<double>(target_steps);
  if (version != in_service_ || decided_ || now.steps < look_next_) return LiveAdvice::kNone;
  const double next = static_cast<double>(now.steps) * kLookGrowth;
  look_next_ = now.steps < options_.steps_max
                   ? std::min(static_cast<int64_t>(next) + 1, options_.steps_max)
                   : static_cast<int64_t>(next) + 1;
  return decide(now);
}

LiveAdvice LiveGate::decide(const Stats& now) {
  const Stats* good = find(last_good_);
  const bool good_known = good != nullptr && good->steps >= options_.steps_min &&
                          good->observations >= options_.observations_min;
  if (now.observations < options_.observations_min) return LiveAdvice::kNone;
  bool promote = !good_known;  // nothing to hold it against
  bool roll_back = false;
  z_ = 0;
  if (good_known) {
    const double error = std::sqrt(mean_variance(now) + mean_variance(*good));
    const double mean_min = good->mean() * (1 - options_.effect_min);
    z_ = (now.mean() - good->mean()) / error;
    roll_back = z_ < options_.z_worse && now.mean() < mean_min;
    promote = !roll_back && ((now.mean() - mean_min) / error > options_.z_equal ||
                             now.steps >= options_.steps_max);
  }
  if (!promote && !roll_back) return LiveAdvice::kNone;
  judged_ = now;
  against_ = good_known ? *good : Stats{};
  decided_ = true;
  if (promote) last_good_ = now.version;
  return promote ? LiveAdvice::kPromote : LiveAdvice::kRollBack;
}

std::string LiveGate::explain() const {
  char text[256];
  if (judged_.version == 0) return "no draft version has been judged yet";
  if (against_.version == 0) {
    std::snprintf(text, sizeof text,
                  "version %lld: %.3f tokens a step over %lld steps, nothing to compare with",
                  static_cast<long long>(judged_.version), judged_.mean(),
                  static_cast<long long>(judged_.steps));
    return text;
  }
  std::snprintf(text, sizeof text,
                "version %lld: %.3f tokens a step over %lld steps, version %lld: %.3f over %lld (z "
                "= %.1f)",
                static_cast<long long>(judged_.version), judged_.mean(),
                static_cast<long long>(judged_.steps), static_cast<long long>(against_.version),
                against_.mean(), static_cast<long long>(against_.steps), z_);
  return text;
}

}  // namespace aurora
