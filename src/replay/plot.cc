#include "replay/plot.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "replay/text.h"

namespace aurora {
namespace {

constexpr double kWidth = 960;
constexpr double kHeight = 592;
constexpr double kLeft = 62;
constexpr double kRight = kWidth - 26;
constexpr size_t kRollingRequests = 20;
constexpr double kLabelGap = 30;  // swap labels closer than this would run into each other

constexpr const char* kPlotStyle = R"css(
.aurora-plot { --card: #ffffff; --ink: #16202c; --soft: #5c6b7a; --grid: #e6ebf0; --band: #f5f8fa;
  --accept: #07845f; --speed: #4a55d6; --base: #8a96a3; --swap: #c26a05;
  font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  .aurora-plot { --card: #10161d; --ink: #e8eef4; --soft: #93a3b3; --grid: #232d38; --band: #151d26;
    --accept: #3ddba6; --speed: #98a0ff; --base: #7e8b98; --swap: #f0a54a; } }
.aurora-plot text { fill: var(--soft); }
.aurora-plot .card { fill: var(--card); stroke: var(--grid); }
.aurora-plot .band { fill: var(--band); }
.aurora-plot .grid { stroke: var(--grid); }
.aurora-plot .title { fill: var(--ink); font-size: 18px; font-weight: 650; }
.aurora-plot .panel { fill: var(--ink); font-weight: 600; }
.aurora-plot .domain { fill: var(--ink); font-weight: 600; font-size: 12px; }
.aurora-plot .swap { stroke: var(--swap); stroke-width: 1; stroke-dasharray: 2 4; }
.aurora-plot .version { fill: var(--swap); font-size: 11px; font-weight: 600; text-anchor: middle; }
.aurora-plot .edge { stroke: var(--soft); stroke-width: 1.2; }
.aurora-plot .line { fill: none; stroke-width: 2.4; stroke-linejoin: round; stroke-linecap: round; }
.aurora-plot .accept { stroke: var(--accept); } .aurora-plot .accept-dot { fill: var(--accept); }
.aurora-plot .speed { stroke: var(--speed); } .aurora-plot .speed-dot { fill: var(--speed); }
.aurora-plot .base { stroke: var(--base); stroke-dasharray: 7 5; } .aurora-plot .base-dot { fill: var(--base); }
.aurora-plot .dot { stroke: var(--card); stroke-width: 2; }
.aurora-plot .value { font-size: 12px; font-weight: 650; text-anchor: middle; paint-order: stroke;
  stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.aurora-plot .value.on-accept { fill: var(--accept); } .aurora-plot .value.on-speed { fill: var(--speed); }
.aurora-plot .end { text-anchor: end; } .aurora-plot .middle { text-anchor: middle; }
)css";

// The distance of grid lines: 1, 2, 2.5 or 5 times a power of ten, about `count` of them over span.
double nice_step(double span, int count) {
  const double raw = std::max(span, 1e-9) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

struct Point {
  double x = 0;  // served tokens
  double y = 0;
};

struct Panel {
  double top = 0;
  double bottom = 0;
  double y_min = 0;
  double y_max = 1;
  double y_step = 1;
  double x_max = 1;

  double x(double tokens) const { return kLeft + (kRight - kLeft) * tokens / x_max; }
  double y(double value) const {
    const double share = std::clamp((value - y_min) / (y_max - y_min), 0.0, 1.0);
    return bottom - (bottom - top) * share;
  }
};

using Figure = std::function<double(size_t first, size_t last)>;  // of samples [first, last)

// Where samples [first, last) have their middle on the axis of served tokens.
double middle_tokens(const Report& report, size_t first, size_t last) {
  const int64_t before = first == 0 ? 0 : report.samples[first - 1].served_tokens;
  return static_cast<double>(before + report.samples[last - 1].served_tokens) / 2;
}

// The figure of the last few requests at each request, drawn at their middle: one line a domain.
std::vector<Point> rolling(const Report& report, const Window& run, const Figure& figure) {
  std::vector<Point> points;
  for (size_t last = run.first + 1; last <= run.last; ++last) {
    const size_t span = std::min(kRollingRequests, last - run.first);
    if (span < std::min(kRollingRequests / 4, run.last - run.first)) continue;
    points.push_back({middle_tokens(report, last - span, last), figure(last - span, last)});
  }
  return points;
}

std::string polyline(const Panel& panel, const std::vector<Point>& points, const char* kind) {
  std::string text = printed("<polyline class=\"line %s\" points=\"", kind);
  for (const Point& point : points)
    text += printed("%.1f,%.1f ", panel.x(point.x), panel.y(point.y));
  return text + "\"/>\n";
}

std::string grid(const Panel& panel, const char* title, double title_y) {
  std::string text;
  for (double value = panel.y_min; value <= panel.y_max + panel.y_step / 4; value += panel.y_step) {
    const double y = panel.y(value);
    text += printed("<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft,
                    kRight, y, y);
    text += printed("<text class=\"end\" x=\"%.0f\" y=\"%.1f\">%.*f</text>\n", kLeft - 10, y + 4,
                    panel.y_step < 1 ? (panel.y_step < 0.1 ? 2 : 1) : 0, value);
  }
  return text +
         printed("<text class=\"panel\" x=\"%.0f\" y=\"%.1f\">%s</text>\n", kLeft, title_y, title);
}

// Every second domain stands on a band of its own; an edge marks where it begins.
std::string domain_bands(const Report& report, const Panel& panel, bool with_names) {
  std::string text;
  double from = 0;
  size_t number = 0;
  for (const Window& run : domain_runs(report)) {
    const double to = static_cast<double>(run.served_tokens);
    const double x = panel.x(from), width = panel.x(to) - x, height = panel.bottom - panel.top;
    if (number % 2 == 1) {
      text += printed("<rect class=\"band\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
                      x, panel.top, width, height);
      text += printed("<line class=\"edge\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", x,
                      x, panel.top, panel.bottom);
    }
    if (with_names) {
      text += printed("<text class=\"domain middle\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                      x + width / 2, panel.bottom + 20, escaped(domain_label(run.domain)).c_str());
    }
    from = to;
    ++number;
  }
  return text;
}

std::string swap_lines(const Report& report, const Panel& panel, bool with_versions) {
  std::string text;
  double last_label = -1e9;
  for (const SwapMark& mark : swap_marks(report)) {
    const double x = panel.x(static_cast<double>(mark.served_tokens));
    text += printed(
        "<line class=\"swap\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"><title>"
        "draft version %lld after %lld tokens</title></line>\n",
        x, x, panel.top, panel.bottom, static_cast<long long>(mark.version),
        static_cast<long long>(mark.served_tokens));
    if (!with_versions || x - last_label < kLabelGap) continue;
    text += printed("<text class=\"version\" x=\"%.1f\" y=\"%.1f\">v%lld</text>\n", x,
                    panel.top - 8, static_cast<long long>(mark.version));
    last_label = x;
  }
  return text;
}

std::string window_dots(const Report& report, const Panel& panel, const char* kind,
                        double Window::*value, int decimals) {
  std::string text;
  for (const Window& window : windows_of(report)) {
    if (window.last - window.first < kWindowRequests / 2 && window.first != 0) continue;
    const double x = panel.x(middle_tokens(report, window.first, window.last)),
                 y = panel.y(window.*value);
    text += printed(
        "<circle class=\"dot %s-dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"><title>requests %zu "
        "to %zu, %s, draft version %lld</title></circle>",
        kind, x, y, window.first + 1, window.last, escaped(domain_label(window.domain)).c_str(),
        static_cast<long long>(window.draft_version));
    text += printed("<text class=\"value on-%s\" x=\"%.1f\" y=\"%.1f\">%.*f</text>\n", kind, x,
                    y - 12, decimals, window.*value);
  }
  return text;
}

std::string accept_panel(const Report& report, double x_max) {
  const Figure figure = [&](size_t first, size_t last) { return accept_len(report, first, last); };
  const std::vector<Window> runs = domain_runs(report);
  std::vector<std::vector<Point>> lines;
  double highest = 1.4;
  for (const Window& run : runs) {
    lines.push_back(rolling(report, run, figure));
    for (const Point& point : lines.back()) highest = std::max(highest, point.y);
  }
  const double step = nice_step(highest - 1, 4);
  const Panel panel{.top = 108,
                    .bottom = 318,
                    .y_min = 1,
                    .y_max = 1 + step * std::ceil((highest - 1 + step / 3) / step),
                    .y_step = step,
                    .x_max = x_max};
  std::string text = domain_bands(report, panel, false) +
                     grid(panel, "accept length: tokens a step of the target", panel.top - 34) +
                     swap_lines(report, panel, true);
  for (const auto& line : lines) text += polyline(panel, line, "accept");
  return text + window_dots(report, panel, "accept", &Window::accept_len, 2);
}

std::string speed_panel(const Report& report, double x_max) {
  const Figure figure = [&](size_t first, size_t last) {
    return tokens_per_s(report, first, last);
  };
  std::vector<std::vector<Point>> lines;
  std::vector<Point> baseline;
  double highest = 1;
  for (const Window& run : domain_runs(report)) {
    lines.push_back(rolling(report, run, figure));
    for (const Point& point : lines.back()) highest = std::max(highest, point.y);
  }
  for (const Window& window : windows_of(report)) {
    if (window.baseline_tokens_per_s <= 0) continue;
    baseline.push_back(
        {middle_tokens(report, window.first, window.last), window.baseline_tokens_per_s});
    highest = std::max(highest, window.baseline_tokens_per_s);
  }
  const double step = nice_step(highest, 4);
  const Panel panel{.top = 378,
                    .bottom = 518,
                    .y_min = 0,
                    .y_max = step * std::ceil((highest + step / 3) / step),
                    .y_step = step,
                    .x_max = x_max};
  std::string text = domain_bands(report, panel, true) +
                     grid(panel, "tokens a second", panel.top - 16) +
                     swap_lines(report, panel, false);
  if (!baseline.empty()) {
    // Drawn from edge to edge: the windows at the ends have their points in the middle.
    baseline.insert(baseline.begin(), {0, baseline.front().y});
    baseline.push_back({x_max, baseline.back().y});
    text += polyline(panel, baseline, "base");
    text += printed("<text class=\"end\" x=\"%.0f\" y=\"%.1f\">without a draft</text>\n",
                    kRight - 6, panel.y(baseline.back().y) - 8);
  }
  for (const auto& line : lines) text += polyline(panel, line, "speed");
  return text + window_dots(report, panel, "speed", &Window::tokens_per_s, 0);
}

std::string token_axis(double x_max) {
  std::string text;
  const Panel panel{.x_max = x_max};
  const double step = nice_step(x_max, 8);
  for (double tokens = 0; tokens <= x_max; tokens += step) {
    text += printed("<text class=\"middle\" x=\"%.1f\" y=\"558\">%s</text>", panel.x(tokens),
                    grouped(static_cast<int64_t>(tokens)).c_str());
  }
  return text + printed("\n<text class=\"middle\" x=\"%.0f\" y=\"577\">served tokens</text>\n",
                        (kLeft + kRight) / 2);
}

std::string legend() {
  return "<line class=\"line accept\" x1=\"600\" x2=\"622\" y1=\"30\" y2=\"30\"/>"
         "<text x=\"630\" y=\"34\">last 20 requests</text>"
         "<circle class=\"dot accept-dot\" cx=\"757\" cy=\"30\" r=\"5\"/><text x=\"768\" "
         "y=\"34\">50 "
         "requests</text>"
         "<line class=\"swap\" x1=\"869\" x2=\"869\" y1=\"20\" y2=\"40\"/><text x=\"878\" "
         "y=\"34\">new draft</text>\n";
}

}  // namespace

std::string report_svg(const Report& report) {
  std::string text = printed(
      "<svg class=\"aurora-plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "role=\"img\" aria-label=\"Accept length and tokens a second against served "
      "tokens\">\n<style>%s"
      "</style>\n<rect class=\"card\" x=\".5\" y=\".5\" width=\"%.0f\" height=\"%.0f\" "
      "rx=\"14\"/>\n",
      kWidth, kHeight, kPlotStyle, kWidth - 1, kHeight - 1);
  const char* title = "Accept length and speed";
  if (report.samples.empty()) title = "No request was served";
  if (swap_count(report) > 0) title = "The draft learns while it serves";
  text += printed("<text class=\"title\" x=\"%.0f\" y=\"36\">%s</text>\n", kLeft, title);
  if (!report.samples.empty()) {
    const double x_max = std::max(1.0, static_cast<double>(report.samples.back().served_tokens));
    text += legend() + accept_panel(report, x_max) + speed_panel(report, x_max) + token_axis(x_max);
  }
  return text + "</svg>\n";
}

}  // namespace aurora
