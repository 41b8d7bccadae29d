// Adds the time of its life to a counter, a histogram, or both.
#pragma once

#include <chrono>

#include "metrics/metrics.h"

namespace aurora {

class ScopedTimer {
 public:
  explicit ScopedTimer(TimeCounter& counter) : counter_(&counter) {}
  explicit ScopedTimer(Histogram& each) : each_(&each) {}
  ScopedTimer(TimeCounter& counter, Histogram& each) : counter_(&counter), each_(&each) {}
  ~ScopedTimer() {
    const std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - begin_;
    if (counter_) counter_->add_ns(static_cast<uint64_t>(spent.count()));
    if (each_) each_->observe(std::chrono::duration<double>(spent).count());
  }

 private:
  TimeCounter* const counter_ = nullptr;
  Histogram* const each_ = nullptr;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace aurora
