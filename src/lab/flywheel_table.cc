// The figures of `aurora bench flywheel` for a terminal.
#include "lab/flywheel_figures.h"
#include "replay/text.h"

namespace aurora {
namespace {

std::string shown(std::optional<double> ratio) { return ratio ? printed("%.3f", *ratio) : "-"; }

std::string window_line(const LearnWindow& window) {
  const Compared& pairs = window.pairs;
  std::string line =
      printed("%8lld  %8zu  %8.1f  %6.2f  %8.0f  %6.1f  %6.1f  v%-5lld  %5lld  %5lld  %6.1f %%",
              static_cast<long long>(window.served_tokens), window.requests, window.speed.per_s(),
              window.accept_len(), quantile(window.latency.first, 0.5),
              quantile(window.latency.gaps, 0.5), quantile(window.latency.gaps, 0.99),
              static_cast<long long>(window.draft_version), static_cast<long long>(window.swaps),
              static_cast<long long>(window.rollbacks), 100 * window.trainer_share);
  line += pairs.pairs() > 0
              ? printed("  %.3f ± %.3f (%zu)", pairs.ratio(), pairs.ratio_error(), pairs.pairs())
              : "  -";
  if (window.frozen.pairs() > 0) line += printed("  %.3f", window.frozen.ratio());
  return line + "  " + window.domain + "\n";
}

std::string arm_lines(const Flywheel& run, int slots) {
  std::string text = printed(
      "\n%d at a time            tokens/s  accept  first ms  p50 ms  p99 ms  "
      "learning is  same text as without drafts\n",
      slots);
  for (const ArmFigures& arm : run.arms) {
    if (arm.slots != slots) continue;
    text +=
        printed("%-20s  %9.1f  %6.2f  %8.0f  %6.1f  %6.1f  %11s  %zu of %zu\n", arm.name.c_str(),
                arm.speed.per_s(), arm.accept_len(), quantile(arm.latency.first, 0.5),
                quantile(arm.latency.gaps, 0.5), quantile(arm.latency.gaps, 0.99),
                shown(over(run, arm.name, slots)).c_str(), arm.same_texts, arm.texts);
  }
  return text;
}

}  // namespace

std::string flywheel_table(const Flywheel& run) {
  std::string text =
      "\n  served  requests  tokens/s  accept  first ms  p50 ms  p99 ms  draft   swaps  back   "
      "trainer  over no draft (pairs)\n";
  for (const LearnWindow& window : run.windows) text += window_line(window);
  std::vector<int> slots;
  for (const ArmFigures& arm : run.arms)
    if (slots.empty() || slots.back() != arm.slots) slots.push_back(arm.slots);
  for (const int count : slots) text += arm_lines(run, count);
  text += "\n";
  if (const LearnWindow* worst = worst_window(run))
    text += printed("worst window of at least %zu pairs: %.3f of the speed without drafts\n",
                    kPairsEnough, worst->pairs.ratio());
  const Compared pairs = all_pairs(run, &LearnWindow::pairs);
  if (pairs.pairs() > 0)
    text += printed(
        "while learning: %.3f ± %.3f of the speed without drafts, the same text in %zu of %zu\n",
        pairs.ratio(), pairs.ratio_error(), pairs.same_texts, pairs.texts);
  const Compared frozen = all_pairs(run, &LearnWindow::frozen);
  if (frozen.pairs() > 0)
    text += printed("behind the shift: %.3f ± %.3f of the speed with the draft frozen before it\n",
                    frozen.ratio(), frozen.ratio_error());
  text +=
      printed("%zu failed, %lld swaps, %lld roll-backs, %.0f s\n", run.failed,
              static_cast<long long>(run.swaps), static_cast<long long>(run.rollbacks), run.wall_s);
  for (const std::string& failure : run.failures) text += "  failed: " + failure + "\n";
  for (const std::string& note : run.notes) text += "  " + note + "\n";
  return text;
}

}  // namespace aurora
