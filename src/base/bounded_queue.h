// A bounded queue between threads. When it is full the caller is told so and decides (drop and
// count); nobody waits for room. Thread-safe, any number of either side.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace aurora {

template <typename T>
class BoundedQueue {
 public:
  // Never holds more than `count_max` values.
  explicit BoundedQueue(size_t count_max) : count_max_(count_max) {}

  // False when full or closed; `value` is then untouched. Waits for no room and no work: the lock
  // is held for the move of one value only, on either side.
  [[nodiscard]] bool try_push(T&& value) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_ || values_.size() >= count_max_) return false;
      values_.push_back(std::move(value));
    }
    filled_.notify_one();
    return true;
  }

  // The oldest value; nullopt when none came within `timeout`, or when closed and drained.
  std::optional<T> pop(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    filled_.wait_for(lock, timeout, [this] { return closed_ || !values_.empty(); });
    if (values_.empty()) return std::nullopt;
    std::optional<T> value(std::move(values_.front()));
    values_.pop_front();
    return value;
  }

  // Refuses what comes from now on; what is in the queue can still be popped. Wakes every pop().
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    filled_.notify_all();
  }

  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  size_t size() const {
    const std::lock_guard lock(mutex_);
    return values_.size();
  }

 private:
  const size_t count_max_;
  mutable std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<T> values_;  // guarded by mutex_, as is closed_
  bool closed_ = false;
};

}  // namespace aurora
