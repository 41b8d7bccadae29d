// The page of `aurora bench flywheel`: the curve while it learns, and all arms side by side.
#include <algorithm>

#include "lab/flywheel_figures.h"
#include "replay/page_frame.h"
#include "replay/plot.h"
#include "replay/text.h"

namespace aurora {
namespace {

constexpr double kWidth = 960, kLeft = 220, kRight = 870, kRow = 34, kTop = 20;

constexpr const char* kBarStyle = R"css(
.bars { --ink: #16202c; --bar: #8a96a3; --ours: #07845f;
  font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { .bars { --ink: #e8eef4; --bar: #7e8b98; --ours: #3ddba6; } }
.bars text { fill: var(--ink); } .bars rect { fill: var(--bar); } .bars .ours { fill: var(--ours); }
)css";

std::string what_it_is(const std::string& arm) {
  if (arm == "learning") return "ours, learning";
  if (arm == "off") return "the same, asked without drafts";
  if (arm == "none") return "ours without drafts";
  if (arm == "ngram") return "ours, repeated text alone";
  if (arm == "stock") return "llama-server";
  return "llama-server, " + arm.substr(arm.find('-') + 1);
}

std::vector<const ArmFigures*> arms_at(const Flywheel& run, int slots) {
  std::vector<const ArmFigures*> arms;
  for (const ArmFigures& arm : run.arms)
    if (arm.slots == slots) arms.push_back(&arm);
  return arms;
}

std::string bars(const std::vector<const ArmFigures*>& arms) {
  double most = 1;
  for (const ArmFigures* arm : arms) most = std::max(most, arm->speed.per_s());
  std::string text = printed(
      "<svg class=\"bars\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "role=\"img\" aria-label=\"Tokens a second of each arm\">\n<style>%s</style>\n",
      kWidth, kTop + kRow * static_cast<double>(arms.size()), kBarStyle);
  double y = kTop;
  for (const ArmFigures* arm : arms) {
    const double width = (kRight - kLeft) * arm->speed.per_s() / most;
    text += printed("<text text-anchor=\"end\" x=\"%.0f\" y=\"%.1f\">%s</text>", kLeft - 12, y + 16,
                    escaped(what_it_is(arm->name)).c_str());
    text += printed("<rect%s x=\"%.0f\" y=\"%.1f\" width=\"%.1f\" height=\"22\" rx=\"3\"/>",
                    arm->name == "learning" ? " class=\"ours\"" : "", kLeft, y, width);
    text += printed("<text x=\"%.1f\" y=\"%.1f\">%.1f</text>\n", kLeft + width + 8, y + 16,
                    arm->speed.per_s());
    y += kRow;
  }
  return text + "</svg>\n";
}

std::string arm_section(const Flywheel& run, int slots) {
  const auto arms = arms_at(run, slots);
  std::string text = slots == 1
                         ? std::string("<h2>Tokens a second, one request at a time</h2>\n")
                         : printed("<h2>Tokens a second, %d requests at a time</h2>\n", slots);
  text += bars(arms) +
          "<div class=\"scroll\"><table>\n<tr><th>tokens/s</th><th>arm</th><th>learning is</th>"
          "<th>accept length</th><th>first token, ms</th><th>between tokens, p50</th><th>p99</th>"
          "<th>same text as without drafts</th></tr>\n";
  for (const ArmFigures* arm : arms) {
    const auto ratio = over(run, arm->name, slots);
    text += printed(
        "<tr><td>%.1f</td><td>%s</td><td>%s</td><td>%.2f</td><td>%.0f</td><td>%.1f</td>"
        "<td>%.1f</td><td>%zu of %zu</td></tr>\n",
        arm->speed.per_s(), escaped(what_it_is(arm->name)).c_str(),
        ratio ? printed("× %.2f", *ratio).c_str() : "–", arm->accept_len(),
        quantile(arm->latency.first, 0.5), quantile(arm->latency.gaps, 0.5),
        quantile(arm->latency.gaps, 0.99), arm->same_texts, arm->texts);
  }
  return text + "</table></div>\n";
}

std::string windows_table(const Flywheel& run) {
  std::string text =
      "<h2>While it learns</h2>\n<div class=\"scroll\"><table>\n<tr><th>served tokens</th>"
      "<th>traffic</th><th>requests</th><th>tokens/s</th><th>over no draft</th><th>pairs</th>"
      "<th>over the frozen draft</th><th>accept length</th><th>first token, ms</th>"
      "<th>between tokens, p50</th><th>p99</th><th>draft</th><th>swaps</th><th>roll-backs</th>"
      "<th>trainer's CPU</th></tr>\n";
  const auto ratio = [](const Compared& pairs) {
    return pairs.pairs() > 0 ? printed("%.3f ± %.3f", pairs.ratio(), pairs.ratio_error())
                             : std::string("–");
  };
  for (const LearnWindow& window : run.windows) {
    text += printed(
        "<tr><td>%s</td><td>%s</td><td>%zu</td><td>%.1f</td><td>%s</td><td>%zu</td><td>%s</td>"
        "<td>%.2f</td><td>%.0f</td><td>%.1f</td><td>%.1f</td><td>v%lld</td><td>%lld</td>"
        "<td>%lld</td><td>%.0f %%</td></tr>\n",
        grouped(window.served_tokens).c_str(), escaped(window.domain).c_str(), window.requests,
        window.speed.per_s(), ratio(window.pairs).c_str(), window.pairs.pairs(),
        ratio(window.frozen).c_str(), window.accept_len(), quantile(window.latency.first, 0.5),
        quantile(window.latency.gaps, 0.5), quantile(window.latency.gaps, 0.99),
        static_cast<long long>(window.draft_version), static_cast<long long>(window.swaps),
        static_cast<long long>(window.rollbacks), 100 * window.trainer_share);
  }
  return text + "</table></div>\n";
}

std::string tiles(const Flywheel& run) {
  std::string text = "<div class=\"tiles\">\n";
  const auto tile = [&](std::optional<double> ratio, const std::string& name) {
    if (ratio && *ratio > 0) text += page_tile(printed("× %.2f", *ratio), name);
  };
  const int slots = run.arms.empty() ? 1 : run.arms.front().slots;
  tile(over(run, "stock", slots), "of llama-server's speed");
  tile(over_stock_best(run, slots), "of its best speculation");
  tile(over(run, "none", slots), "of ours without drafts");
  const Compared pairs = all_pairs(run, &LearnWindow::pairs);
  tile(pairs.ratio(), "of no draft, while learning");
  if (const LearnWindow* worst = worst_window(run))
    tile(worst->pairs.ratio(), "in the worst window");
  tile(all_pairs(run, &LearnWindow::frozen).ratio(), "of a frozen draft, behind the shift");
  if (pairs.texts > 0)
    text += page_tile(printed("%zu / %zu", pairs.same_texts, pairs.texts),
                      "same text as without drafts");
  text += page_tile(std::to_string(run.failed), "failed");
  return text + page_tile(std::to_string(run.swaps), "drafts swapped in") + "</div>\n";
}

}  // namespace

std::string flywheel_html(const Flywheel& run) {
  std::string text = page_begin("Aurora bench flywheel");
  text +=
      "<p>One server began with nothing learnt and trained its draft on the traffic below while it "
      "served it. Then all ways to decode were asked the same new prompts, one behind the other in "
      "a turning order. A ratio while learning is of the same prompts, asked with and without "
      "drafts one right behind the other, on the same server.</p>\n";
  text += tiles(run) + report_svg(run.curve);
  std::vector<int> seen;
  for (const ArmFigures& arm : run.arms) {
    if (std::count(seen.begin(), seen.end(), arm.slots) > 0) continue;
    seen.push_back(arm.slots);
    text += arm_section(run, arm.slots);
  }
  text += windows_table(run);
  for (const std::string& note : run.notes) text += "<p>" + escaped(note) + "</p>\n";
  return text + settings_list(run.settings) + page_end();
}

}  // namespace aurora
