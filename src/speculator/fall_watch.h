// Notices that the accept length has fallen: the traffic has moved, and there is something to learn
// again. The mean of lately beside that of long; a fall is told once. Decode thread; O(1).
#pragma once

#include <algorithm>
#include <cstdint>

namespace aurora {

class FallWatch {
 public:
  void token() { ++tokens_; }

  // A target step begins. True: of lately it is well below what it was.
  bool step() {
    if (steps_++ == 0) return false;
    const double tokens = tokens_;
    tokens_ = 0;
    lately_ += (tokens - lately_) / static_cast<double>(std::min(steps_ - 1, kLately));
    long_ += (tokens - long_) / static_cast<double>(std::min(steps_ - 1, kLong));
    if (steps_ < 2 * kLately || lately_ >= kFallen * long_) return false;
    long_ = lately_;
    steps_ = kLately;  // what comes is soon the new measure
    return true;
  }

 private:
  static constexpr int64_t kLately = 2000, kLong = 20'000;  // steps that a mean remembers
  static constexpr double kFallen = 0.88;  // four deviations of such a mean, about, on one traffic

  int64_t steps_ = 0;
  int tokens_ = 0;  // since the last step began
  double lately_ = 0, long_ = 0;
};

}  // namespace aurora
