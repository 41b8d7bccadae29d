// When the server leaves a core to the trainer beside it. While requests run and the trainer has
// work, the server decodes with one thread less for a share of the time, in one stretch of each
// period; the number changes between two steps only. The share is full while new
// drafts come or traffic moves, and fades to a fifth while neither does. Decode thread; O(1).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace aurora {

struct CoreScheduleOptions {
  int threads = 1;      // of the server when it lends nothing
  double share = 0.25;  // of the time with a core lent; 0: none while requests run
  int64_t period_us = 2'000'000;
  int64_t half_life_us = 900'000'000;  // of the share while nothing new comes
};

class CoreSchedule {
 public:
  explicit CoreSchedule(const CoreScheduleOptions& options = {}) : options_(options) {}

  // Threads of the step that begins now. wanted: a trainer lives and has work.
  int threads(int64_t now_us, bool wanted) {
    const bool lent = wanted && options_.threads > 1 && in_lent_stretch(now_us);
    return options_.threads - (lent ? 1 : 0);
  }
  // The trainer has published: its work still pays.
  void new_draft(int64_t now_us) { new_us_ = now_us; }
  // Drafts are taken less than they were: its work pays again.
  void traffic_moved(int64_t now_us) {
    if (new_us_ != 0) new_us_ = now_us;
  }

  double share(int64_t now_us) const {
    if (new_us_ == 0) return options_.share;  // nothing has been learnt yet
    const double age = static_cast<double>(now_us - new_us_);
    const double fade = std::exp2(-age / static_cast<double>(options_.half_life_us));
    return options_.share * std::max(kShareMin, fade);
  }
  // What the trainer may use beside a step of `threads`: the other cores.
  static int cores_left(int cores, int threads) { return std::max(0, cores - threads); }

 private:
  static constexpr double kShareMin = 0.2;

  // At the end of the period: a server that wakes up serves first.
  bool in_lent_stretch(int64_t now_us) {
    if (now_us - begin_us_ >= options_.period_us) begin_us_ = now_us;
    const double own = (1 - share(now_us)) * static_cast<double>(options_.period_us);
    return static_cast<double>(now_us - begin_us_) >= own;
  }

  CoreScheduleOptions options_;
  int64_t begin_us_ = 0;  // of the period
  int64_t new_us_ = 0;    // the last new draft or traffic, 0: no draft yet
};

}  // namespace aurora
