// The two clocks. Wall time dates records and files; steady time measures. Thread-safe, no
// allocation.
#pragma once

#include <chrono>
#include <cstdint>

namespace aurora {

inline int64_t unix_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

inline int64_t steady_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace aurora
