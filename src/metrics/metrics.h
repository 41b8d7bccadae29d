// Counters, gauges and histograms, and their text exposition (Prometheus, version 0.0.4).
// Registered once at start, then written from any thread: add(), set() and observe() take no lock
// and allocate nothing. Nothing is ever removed, so a reference stays valid as long as its Metrics.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace aurora {

class Counter {
 public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// A counter of time: added in nanoseconds, exposed in seconds.
class TimeCounter {
 public:
  void add_ns(uint64_t ns) { ns_.fetch_add(ns, std::memory_order_relaxed); }
  double seconds() const { return static_cast<double>(ns_.load(std::memory_order_relaxed)) * 1e-9; }

 private:
  std::atomic<uint64_t> ns_{0};
};

class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  void add(double delta) { value_.fetch_add(delta, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  // bounds: upper bounds of the buckets, strictly rising, at most 32; +Inf is added.
  explicit Histogram(std::vector<double> bounds);
  void observe(double value);  // O(buckets); NaN is dropped
  const std::vector<double>& bounds() const { return bounds_; }
  std::vector<uint64_t> counts() const;  // bounds + 1, not cumulative
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  const std::vector<double> bounds_;
  const std::unique_ptr<std::atomic<uint64_t>[]> counts_;
  std::atomic<double> sum_{0};
};

// `labels` is the text between the braces: `position="0"`, made by label(). The same name and
// labels give the same object; the same name as another kind is our own fault and aborts.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  Counter& counter(std::string_view name, std::string_view help, std::string_view labels = "");
  TimeCounter& time_counter(std::string_view name, std::string_view help,
                            std::string_view labels = "");
  Gauge& gauge(std::string_view name, std::string_view help, std::string_view labels = "");
  // What another process counts: set here, a counter to who reads it.
  Gauge& counter_of_another(std::string_view name, std::string_view help,
                            std::string_view labels = "");
  Histogram& histogram(std::string_view name, std::string_view help, std::vector<double> bounds,
                       std::string_view labels = "");

  // Families in the order of their registration. From any thread; waits for a registration only.
  std::string text() const;

 private:
  struct Family;
  struct Series;
  Series& series(std::string_view name, std::string_view help, std::string_view labels, int kind);

  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Family>> families_;  // under mutex_; the series in them are atomics
};

// key="value", the value escaped as the format asks.
std::string label(std::string_view key, std::string_view value);

}  // namespace aurora
