// What a decode step of n rows costs, in milliseconds: T(n). Measured at start, followed live,
// apart for all cores and for the time in which the trainer has one. One thread;
// ms() and observe() look at kStepRowsMax row counts at most.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace aurora {

inline constexpr int kStepRowsMax = 256;  // T of more rows goes on as a line

struct StepPoint {
  int rows = 1;
  double ms = 0;
};

class StepCost {
 public:
  enum Cores { kAll = 0, kLent = 1 };

  // By rising rows, the first of one row; between two points T is a line, fewer rows never cost
  // more and n rows no more than n steps of one. Where fewer than four rows were tried, a row more
  // is taken for T(1)/16. Empty: T(n) = 1 for every n, so that drafts are taken for free.
  void measured(std::span<const StepPoint> points);
  void use(Cores cores) { cores_ = cores; }

  double ms(int rows) const;
  // A step of the cores in use, from the end of its drafting to the begin of the next one's.
  void observe(int rows, double ms);

 private:
  struct Factor {  // live over measured, decayed mean
    double value = 1;
    double weight = 0;
  };
  struct Live {
    Factor overall;
    std::array<Factor, kStepRowsMax + 1> by_rows{};
  };

  double base(int rows) const;

  std::array<double, kStepRowsMax + 1> base_{};  // [rows]; 0: nothing was measured
  std::array<Live, 2> live_{};
  Cores cores_ = kAll;
};

}  // namespace aurora
