#include <algorithm>

#include "cli/plot.h"
#include "cli/text.h"

namespace aurora {
namespace {

constexpr const char* kPageStyle = R"css(
:root { color-scheme: light dark; --page: #f4f7f9; --tile: #ffffff; --text: #16202c; --faint: #5c6b7a; --rule: #e1e7ec; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0a0f14; --tile: #10161d; --text: #e8eef4; --faint: #93a3b3; --rule: #232d38; } }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 32px 20px 56px; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 17px; margin: 32px 0 10px; }
p { margin: 0 0 18px; color: var(--faint); max-width: 72ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; margin: 20px 0; }
.tile { background: var(--tile); border: 1px solid var(--rule); border-radius: 12px; padding: 12px 16px; }
.tile b { display: block; font-size: 24px; font-weight: 650; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.tile span { color: var(--faint); font-size: 13px; }
svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; background: var(--tile); border: 1px solid var(--rule); border-radius: 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 14px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-size: 13px; font-weight: 600; color: var(--faint); }
tr:last-child td { border-bottom: 0; }
th:nth-child(2), td:nth-child(2) { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; font-size: 14px; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
)css";

std::string tile(const std::string& value, const std::string& name) {
  return "<div class=\"tile\"><b>" + escaped(value) + "</b><span>" + escaped(name) +
         "</span></div>\n";
}

std::string tiles(const Report& report) {
  const size_t count = report.samples.size();
  std::string text = "<div class=\"tiles\">\n";
  text += tile(grouped(static_cast<int64_t>(count)), "requests served");
  text += tile(grouped(static_cast<int64_t>(report.failed)), "failed");
  text += tile(grouped(swap_count(report)), "drafts swapped in");
  for (const Window& run : domain_runs(report)) {
    const size_t span = std::min(kWindowRequests, run.last - run.first);
    text += tile(printed("%.2f → %.2f", accept_len(report, run.first, run.first + span),
                         accept_len(report, run.last - span, run.last)),
                 "accept length, " + domain_label(run.domain));
  }
  if (count > 0) text += tile(printed("%.1f", tokens_per_s(report, 0, count)), "tokens a second");
  const Baseline baseline = baseline_of(report);
  if (baseline.drafted_pairs > 0) {
    text += tile(printed("× %.2f", baseline.speedup), "speed against no draft");
  }
  if (baseline.pairs > 0) {
    text += tile(printed("%zu / %zu", baseline.same_text, baseline.pairs),
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

std::string settings_list(const Report& report) {
  std::string text = "<h2>Settings</h2>\n<dl>\n";
  for (const auto& [name, value] : report.settings) {
    text += "<dt>" + escaped(name) + "</dt><dd>" + escaped(value) + "</dd>\n";
  }
  return text + "</dl>\n";
}

}  // namespace

std::string report_html(const Report& report) {
  std::string text =
      "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width\">\n<title>Aurora replay</title>\n<style>" +
      std::string(kPageStyle) + "</style>\n<main>\n<h1>Aurora replay</h1>\n";
  text +=
      "<p>Accept length is the number of tokens generated for each decode step of the target, over "
      "all "
      "steps: 1.00 is decoding without a draft. Each dashed line is a draft that was trained on "
      "the "
      "traffic before it and swapped in between two steps.</p>\n";
  text += tiles(report) + report_svg(report);
  if (!report.samples.empty()) text += window_table(report);
  return text + settings_list(report) + "</main>\n</html>\n";
}

}  // namespace aurora
