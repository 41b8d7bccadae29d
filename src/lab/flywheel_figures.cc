#include "lab/flywheel_figures.h"

#include <algorithm>
#include <cmath>

namespace aurora {

void Rate::add(const Rate& more) {
  tokens += more.tokens;
  seconds += more.seconds;
}

void Latency::add(const Answer& answer) {
  if (answer.first_ms > 0) first.push_back(answer.first_ms);
  gaps.insert(gaps.end(), answer.gaps_ms.begin(), answer.gaps_ms.end());
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto last = static_cast<double>(values.size() - 1);
  const auto at = values.begin() + static_cast<ptrdiff_t>(std::lround(share * last));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

void Compared::add(const Rate& one_with, const Rate& one_without) {
  if (one_with.per_s() <= 0 || one_without.per_s() <= 0) return;
  with.add(one_with);
  without.add(one_without);
  log_ratios.push_back(std::log(one_with.per_s() / one_without.per_s()));
}

void Compared::add(const Compared& more) {
  with.add(more.with);
  without.add(more.without);
  log_ratios.insert(log_ratios.end(), more.log_ratios.begin(), more.log_ratios.end());
  texts += more.texts;
  same_texts += more.same_texts;
}

double Compared::ratio() const { return without.per_s() > 0 ? with.per_s() / without.per_s() : 0; }

double Compared::ratio_error() const {
  if (pairs() < 2) return 0;
  const auto count = static_cast<double>(pairs());
  double mean = 0, squares = 0;
  for (const double value : log_ratios) mean += value / count;
  for (const double value : log_ratios) squares += (value - mean) * (value - mean);
  return ratio() * std::sqrt(squares / (count - 1) / count);
}

const ArmFigures* find_arm(const Flywheel& run, const std::string& name, int slots) {
  for (const ArmFigures& arm : run.arms)
    if (arm.name == name && arm.slots == slots && arm.speed.per_s() > 0) return &arm;
  return nullptr;
}

std::optional<double> over(const Flywheel& run, const std::string& name, int slots) {
  const ArmFigures *ours = find_arm(run, "learning", slots), *other = find_arm(run, name, slots);
  if (ours == nullptr || other == nullptr) return std::nullopt;
  return ours->speed.per_s() / other->speed.per_s();
}

std::optional<double> over_stock_best(const Flywheel& run, int slots) {
  std::optional<double> least;
  for (const ArmFigures& arm : run.arms) {
    if (!arm.name.starts_with("stock-") || arm.slots != slots) continue;
    const auto ratio = over(run, arm.name, slots);
    if (ratio && (!least || *ratio < *least)) least = ratio;
  }
  return least;
}

const LearnWindow* worst_window(const Flywheel& run) {
  const LearnWindow* worst = nullptr;
  for (const LearnWindow& window : run.windows) {
    if (window.pairs.pairs() < kPairsEnough) continue;
    if (worst == nullptr || window.pairs.ratio() < worst->pairs.ratio()) worst = &window;
  }
  return worst;
}

Compared all_pairs(const Flywheel& run, Compared LearnWindow::*which) {
  Compared all;
  for (const LearnWindow& window : run.windows) all.add(window.*which);
  return all;
}

}  // namespace aurora
