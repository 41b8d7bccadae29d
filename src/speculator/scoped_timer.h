// Adds the time of its life to a counter.
#pragma once

#include <chrono>

#include "metrics/metrics.h"

namespace aurora {

class ScopedTimer {
 public:
  explicit ScopedTimer(TimeCounter& counter)
      : counter_(counter), begin_(std::chrono::steady_clock::now()) {}
  ~ScopedTimer() {
    const auto spent = std::chrono::steady_clock::now() - begin_;
    counter_.add_ns(static_cast<uint64_t>(std::chrono::nanoseconds(spent).count()));
  }

 private:
  TimeCounter& counter_;
  const std::chrono::steady_clock::time_point begin_;
};

}  // namespace aurora
