#include <algorithm>

#include "replay/page_frame.h"
#include "replay/plot.h"
#include "replay/text.h"

namespace aurora {
namespace {

std::string tiles(const Report& report) {
  const size_t count = report.samples.size();
  std::string text = "<div class=\"tiles\">\n";
  text += page_tile(grouped(static_cast<int64_t>(count)), "requests served");
  text += page_tile(grouped(static_cast<int64_t>(report.failed)), "failed");
  text += page_tile(grouped(swap_count(report)), "drafts swapped in");
  for (const Window& run : domain_runs(report)) {
    const size_t span = std::min(kWindowRequests, run.last - run.first);
    text += page_tile(printed("%.2f → %.2f", accept_len(report, run.first, run.first + span),
                              accept_len(report, run.last - span, run.last)),
                      "accept length, " + domain_label(run.domain));
  }
  if (count > 0)
    text += page_tile(printed("%.1f", tokens_per_s(report, 0, count)), "tokens a second");
  const Baseline baseline = baseline_of(report);
  if (baseline.drafted_pairs > 0) {
    text += page_tile(printed("× %.2f", baseline.speedup), "speed against no draft");
  }
  if (baseline.pairs > 0) {
    text += page_tile(printed("%zu / %zu", baseline.same_text, baseline.pairs),
                      "same text as without draft");
  }
  return text + "</div>\n";
}

std::string window_table(const Report& report) {
  std::string text =
      "<h2>Windows of 50 requests</h2>\n<div "
      "class=\"scroll\"><table>\n<tr><th>requests</th><th>domain"
      "</th><th>served tokens</th><th>accept length</th><th>tokens/s</th><th>without draft</th>"
      "<th>draft</th></tr>\n";
  for (const Window& window : windows_of(report)) {
    const std::string without = window.baseline_tokens_per_s > 0
                                    ? printed("%.1f", window.baseline_tokens_per_s)
                                    : std::string("–");
    text += printed(
        "<tr><td>%zu–%zu</td><td>%s</td><td>%s</td><td>%.2f</td><td>%.1f</td><td>%s</td>"
        "<td>v%lld</td></tr>\n",
        window.first + 1, window.last, escaped(domain_label(window.domain)).c_str(),
        grouped(window.served_tokens).c_str(), window.accept_len, window.tokens_per_s,
        without.c_str(), static_cast<long long>(window.draft_version));
  }
  return text + "</table></div>\n";
}

}  // namespace

std::string report_html(const Report& report) {
  std::string text = page_begin("Aurora replay");
  text +=
      "<p>Accept length is the number of tokens generated for each decode step of the target, over "
      "all "
      "steps: 1.00 is decoding without a draft. Each dashed line is a draft that was trained on "
      "the "
      "traffic before it and swapped in between two steps.</p>\n";
  text += tiles(report) + report_svg(report);
  if (!report.samples.empty()) text += window_table(report);
  return text + settings_list(report.settings) + page_end();
}

}  // namespace aurora
