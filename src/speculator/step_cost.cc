#include "speculator/step_cost.h"

#include <algorithm>

namespace aurora {
namespace {

constexpr double kHorizon = 16;       // observations that a factor remembers
constexpr double kOverallWeight = 1;  // of all rows' factor beside one row count's own
constexpr double kFade = 0.995;       // of a row count's own weight, each step
constexpr double kWeightMin = 0.1;    // below it a row count is taken for those nearest below it
constexpr double kStepOff = 1.5;  // an observation further up counts as so far: a stall is no step
// Where fewer row counts could be measured, a row is taken for cheap until it is tried: what is too
// dear is not tried.
constexpr int kRowsFew = 4;
constexpr double kRowFew = 1.0 / 16;  // of T(1)
// Before a lent core was ever seen at work: a step takes half as long again.
constexpr double kLentGuess = 1.5;

void follow(double ratio, double& value, double& weight) {
  const double seen = std::min(ratio, value * kStepOff);
  weight = std::min(weight + 1, kHorizon);
  value += (seen - value) / weight;
}

}  // namespace

void StepCost::measured(std::span<const StepPoint> points) {
  base_.fill(0);
  live_ = {};
  live_[kLent].overall.value = kLentGuess;
  for (Live& live : live_) live.overall.weight = 4;  // as sure as four steps
  if (points.empty()) return;
  if (points.back().rows < kRowsFew) {
    double single = points.front().ms;
    for (const StepPoint& point : points) single = std::min(single, point.ms);
    for (int rows = 1; rows <= kStepRowsMax; ++rows)
      base_[static_cast<size_t>(rows)] = single * (1 + kRowFew * (rows - 1));
    return;
  }
  for (int rows = kStepRowsMax; rows > 0; --rows) {
    const auto above = std::find_if(points.begin(), points.end(),
                                    [rows](const StepPoint& p) { return p.rows >= rows; });
    double ms = 0;
    if (above == points.begin()) {
      ms = above->ms;
    } else {
      // Behind the last point the line between the last two goes on, upwards at least a little.
      const StepPoint& b = above == points.end() ? points.back() : *above;
      const StepPoint& a =
          above == points.end() ? points[points.size() > 1 ? points.size() - 2 : 0] : *(above - 1);
      const double slope = b.rows > a.rows ? (b.ms - a.ms) / (b.rows - a.rows) : b.ms / b.rows;
      ms = a.ms + (above == points.end() ? std::max(slope, 0.0) : slope) * (rows - a.rows);
    }
    // A step of fewer rows never costs more: what says so was disturbed.
    const auto at = static_cast<size_t>(rows);
    base_[at] = rows < kStepRowsMax ? std::min(ms, base_[at + 1]) : ms;
  }
  // Nor does one of n rows cost more than n of one.
  for (int rows = 2; rows <= kStepRowsMax; ++rows)
    base_[static_cast<size_t>(rows)] = std::min(base_[static_cast<size_t>(rows)], rows * base_[1]);
}

double StepCost::base(int rows) const {
  const int within = std::clamp(rows, 1, kStepRowsMax);
  const double ms = base_[static_cast<size_t>(within)];
  if (ms <= 0) return 1;
  const double slope = ms - base_[kStepRowsMax - 1];
  return rows > kStepRowsMax ? ms + slope * (rows - kStepRowsMax) : ms;
}

// Where no step of so many rows was seen lately, those nearest below tell how far the measurement
// is off: a busy machine at the start bends the whole curve.
double StepCost::ms(int rows) const {
  const Live& live = live_[cores_];
  int near = std::clamp(rows, 1, kStepRowsMax);
  while (near > 1 && live.by_rows[static_cast<size_t>(near)].weight < kWeightMin) --near;
  const Factor& own = live.by_rows[static_cast<size_t>(near)];
  const double factor = (own.value * own.weight + live.overall.value * kOverallWeight) /
                        (own.weight + kOverallWeight);
  return base(rows) * factor;
}

void StepCost::observe(int rows, double ms) {
  if (rows < 1 || !(ms > 0) || base_[1] <= 0) return;
  Live& live = live_[cores_];
  const double ratio = ms / base(rows), known = this->ms(rows) / base(rows);
  follow(ratio, live.overall.value, live.overall.weight);
  for (Factor& factor : live.by_rows) factor.weight *= kFade;
  Factor& own = live.by_rows[static_cast<size_t>(std::min(rows, kStepRowsMax))];
  if (own.weight < kWeightMin) own = {known, 0};
  follow(ratio, own.value, own.weight);
}

}  // namespace aurora
