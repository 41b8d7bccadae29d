// Watches acceptance by draft version while serving: says when the version in service is worse than
// the last good one beyond chance (go back to it) and when it has proved to be as good (it becomes
// the last good one). Owned by the thread that decodes; no lock, no allocation, O(1) each call.
//
// The test: Welch's z on generated tokens a target step, at rising step counts, the first at
// steps_min and each 1.5 times the one before, so that looking often does not turn chance into an
// alarm.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace aurora {

struct LiveGateOptions {
  int64_t steps_min = 300;        // of each version before anything is said
  int64_t steps_max = 20'000;     // not shown to be worse until here: good
  double z_worse = -3.3;          // about eleven looks at z < -3 would alarm 1 % of equal pairs
  double z_equal = 1.64;          // for "not worse by effect_min"
  double effect_min = 0.03;       // a smaller relative loss is not worth a swap
  int64_t observations_min = 30;  // below, the variance itself is a guess
};

enum class LiveAdvice { kNone, kPromote, kRollBack };

class LiveGate {
 public:
  struct Stats {
    int64_t version = 0;
    int64_t observations = 0;
    int64_t steps = 0;
    double tokens = 0;
    double squares = 0;  // sum of tokens^2 / steps over the observations

    double mean() const { return steps == 0 ? 0 : tokens / static_cast<double>(steps); }
    double variance() const;  // of one step
  };

  explicit LiveGate(LiveGateOptions options = {}) : options_(options) {}

  // One verify step of a slot, or the sum over one request's steps under one version: the better
  // choice where at hand, since steps of one request resemble each other and counted singly they
  // overstate the certainty. Advice comes at most once a version, and only for the newest adopted
  // (see adopt). Version 0 is ignored.
  LiveAdvice observe(int64_t version, int64_t generated_tokens, int64_t target_steps);

  // A version entered service. Observations of others are still counted, without advice.
  void adopt(int64_t version);

  int64_t last_good() const { return last_good_; }  // 0: none yet
  // Why the last advice was given, one sentence, for the log and the verdict. Allocates.
  std::string explain() const;
  const Stats* find(int64_t version) const;  // nullptr: unknown or forgotten

 private:
  static constexpr size_t kVersionsMax = 8;

  Stats& stats(int64_t version);
  LiveAdvice decide(const Stats& now);

  LiveGateOptions options_;
  std::array<Stats, kVersionsMax> stats_{};
  int64_t in_service_ = 0;
  int64_t last_good_ = 0;
  bool decided_ = false;    // about in_service_
  int64_t look_next_ = 0;   // steps of in_service_ at the next look
  Stats judged_, against_;  // of the last advice
  double z_ = 0;
};

}  // namespace aurora
