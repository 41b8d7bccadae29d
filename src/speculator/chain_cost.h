// What drafting with the chain costs on this machine, measured while it drafts, in shares of T(1):
// a busy machine slows both. One thread; O(1).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "speculator/draft_plan.h"

namespace aurora {

class ChainCostMeter {
 public:
  // first: the first token of `slots` slots, `rows` rows of theirs built before it (each slot
  // builds at least the rows that the last step accepted). single_ms: T(1) as it is now.
  void first(int32_t slots, int32_t rows, double ms, double single_ms) {
    const double share = ms / single_ms;
    if (rows <= 2 * kRowsForFree * slots) {
      follow(first_[at(slots)], share - fill_.value * rows_to_fill(slots, rows));
    } else if (rows > 0) {
      follow(fill_, (share - first_[at(slots)].value) / rows);
    }
  }
  void next(int32_t slots, double ms, double single_ms) {
    follow(next_[at(slots)], ms / single_ms);
  }

  ChainCost expected(int32_t slots, int32_t rows, double single_ms) const {
    ChainCost cost;
    cost.first_ms = first_[at(slots)].value * single_ms;
    cost.next_ms = next_[at(slots)].value * single_ms;
    cost.fill_ms = fill_.value * rows_to_fill(slots, rows) * single_ms;
    return cost;
  }

 private:
  struct Estimate {
    double value;  // before anything is measured: a guess
    double weight = 0;
  };
  static constexpr int32_t kRowsForFree = 4;
  static constexpr double kHorizon = 32;
  static constexpr double kDown = 0.5;
  static constexpr double kStall = 3;        // times what is expected: counts as so much
  static constexpr size_t kSlotClasses = 9;  // 1 ... 8, more
  using BySlots = std::array<Estimate, kSlotClasses>;

  static BySlots guess(double share) {
    BySlots all;
    all.fill({share});
    return all;
  }
  static size_t at(int32_t slots) {
    return static_cast<size_t>(std::clamp(slots, 1, static_cast<int32_t>(kSlotClasses))) - 1;
  }
  static double rows_to_fill(int32_t slots, int32_t rows) {
    return std::max(0, rows - kRowsForFree * slots);
  }
  // Other processes only ever add time: down at once, up by and by. An estimate that is too high
  // would not be corrected, since nothing is drafted then.
  static void follow(Estimate& estimate, double share) {
    if (!(share > 0)) return;
    const double seen = std::min(share, kStall * estimate.value);
    estimate.weight = std::min(estimate.weight + 1, kHorizon);
    const double step = 1 / estimate.weight;
    estimate.value +=
        (seen - estimate.value) * (seen < estimate.value ? std::max(step, kDown) : step);
  }

  BySlots first_ = guess(0.15), next_ = guess(0.1);
  Estimate fill_{0.1 / 16};  // a row
};

}  // namespace aurora
