// What drafting with the chain costs on this machine, measured while it drafts. One thread; O(1).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "speculator/draft_plan.h"

namespace aurora {

class ChainCostMeter {
 public:
  // first: the first token of `slots` slots, `rows` rows of theirs built before it (each slot
  // builds at least the rows that the last step accepted).
  void first(int32_t slots, int32_t rows, double ms) {
    const double known = fill_.value * std::max(0, rows - kRowsForFree * slots);
    if (rows <= 2 * kRowsForFree * slots) {
      follow(first_[at(slots)], ms - known);
    } else if (rows > 0) {
      follow(fill_, std::max(0.0, ms - first_[at(slots)].value) / rows);
    }
  }
  void next(int32_t slots, double ms) { follow(next_[at(slots)], ms); }

  // T(1) is a first guess: nothing has been measured yet.
  ChainCost expected(int32_t slots, int32_t rows, double single_ms) const {
    const size_t s = at(slots);
    ChainCost cost;
    cost.first_ms = first_[s].weight > 0 ? first_[s].value : kGuess * 1.5 * single_ms;
    cost.next_ms = next_[s].weight > 0 ? next_[s].value : kGuess * single_ms;
    const double fill = fill_.weight > 0 ? fill_.value : kGuess / 16 * single_ms;
    cost.fill_ms = fill * std::max(0, rows - kRowsForFree * slots);
    return cost;
  }

 private:
  struct Mean {
    double value = 0;
    double weight = 0;
  };
  static constexpr int32_t kRowsForFree = 4;
  static constexpr double kGuess = 0.1;  // of T(1), a drafted token
  static constexpr double kHorizon = 32;
  static constexpr size_t kSlotClasses = 9;  // 1 ... 8, more

  static size_t at(int32_t slots) {
    return static_cast<size_t>(std::clamp(slots, 1, static_cast<int32_t>(kSlotClasses))) - 1;
  }
  static void follow(Mean& mean, double ms) {
    if (!(ms > 0)) return;
    const double seen = mean.weight > 4 ? std::min(ms, 3 * mean.value) : ms;
    mean.weight = std::min(mean.weight + 1, kHorizon);
    mean.value += (seen - mean.value) / mean.weight;
  }

  std::array<Mean, kSlotClasses> first_{}, next_{};
  Mean fill_;  // a row
};

}  // namespace aurora
