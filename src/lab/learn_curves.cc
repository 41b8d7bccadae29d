#include "lab/learn_curves.h"

#include <algorithm>
#include <cmath>

#include "replay/text.h"

namespace aurora {
namespace {

constexpr double kWidth = 960, kLeft = 56, kRight = kWidth - 180, kTop = 30, kBottom = 400;
constexpr double kHeight = 450;

constexpr const char* kStyle = R"css(
.curves { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; background: #fff; }
.curves text { fill: #5c6b7a; } .curves .grid { stroke: #e6ebf0; }
.curves polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
)css";

// Hues a golden angle apart: neighbours differ, however many there are.
std::string colour(size_t i) {
  return printed("hsl(%.0f, 65%%, 42%%)", std::fmod(160.0 + 137.5 * static_cast<double>(i), 360.0));
}

struct Scale {
  double tokens_max = 1, accept_max = 1.2;
  double x(double tokens) const { return kLeft + (kRight - kLeft) * tokens / tokens_max; }
  double y(double accept) const {
    return kBottom - (kBottom - kTop) * (accept - 1) / (accept_max - 1);
  }
};

Scale scale_of(const std::vector<LearnCurve>& curves) {
  Scale scale;
  for (const LearnCurve& curve : curves) {
    for (const auto& [tokens, accept] : curve.points) {
      scale.tokens_max = std::max(scale.tokens_max, static_cast<double>(tokens));
      scale.accept_max = std::max(scale.accept_max, std::ceil(accept * 10) / 10);
    }
  }
  return scale;
}

std::string grid(const Scale& scale) {
  std::string text;
  for (int tenth = 10; tenth <= static_cast<int>(std::lround(scale.accept_max * 10)); ++tenth) {
    const double y = scale.y(tenth / 10.0);
    text += printed("<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft,
                    kRight, y, y);
    text += printed("<text text-anchor=\"end\" x=\"%.0f\" y=\"%.1f\">%.1f</text>\n", kLeft - 8,
                    y + 4, tenth / 10.0);
  }
  for (int part = 0; part <= 4; ++part) {
    const double tokens = scale.tokens_max * part / 4;
    text += printed("<text text-anchor=\"middle\" x=\"%.1f\" y=\"%.0f\">%s</text>", scale.x(tokens),
                    kBottom + 20, grouped(static_cast<int64_t>(tokens)).c_str());
  }
  return text +
         printed("\n<text text-anchor=\"middle\" x=\"%.0f\" y=\"%.0f\">served tokens</text>\n",
                 (kLeft + kRight) / 2, kBottom + 40);
}

}  // namespace

std::string learn_curves_svg(const std::vector<LearnCurve>& curves) {
  const Scale scale = scale_of(curves);
  std::string text = printed(
      "<svg class=\"curves\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "role=\"img\" aria-label=\"Accept length against served tokens\">\n<style>%s</style>\n",
      kWidth, kHeight, kStyle);
  text += grid(scale);
  for (size_t i = 0; i < curves.size(); ++i) {
    const std::string stroke = colour(i);
    text += "<polyline stroke=\"" + stroke + "\" points=\"";
    for (const auto& [tokens, accept] : curves[i].points)
      text += printed("%.1f,%.1f ", scale.x(static_cast<double>(tokens)), scale.y(accept));
    text += "\"/>";
    text += printed("<text x=\"%.0f\" y=\"%.0f\" style=\"fill:%s\">%s</text>\n", kRight + 12,
                    kTop + 16 * static_cast<double>(i), stroke.c_str(),
                    escaped(curves[i].name).c_str());
  }
  return text + "</svg>\n";
}

std::string learn_curves_html(const std::vector<LearnCurve>& curves) {
  std::string text =
      "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Aurora bench "
      "learn</title>\n<style>body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:2em "
      "auto}td,th{padding:4px 12px;text-align:left}</style>\n<h1>Aurora bench learn</h1>\n<p>Each "
      "window of requests is scored by the draft trained on all requests before it, then trained "
      "on. Accept length is generated tokens for each decode step of the target.</p>\n";
  text += learn_curves_svg(curves);
  text +=
      "<table><tr><th>variant</th><th>last window</th><th>whole stream</th><th>rows/s</th>"
      "<th>recipe</th></tr>\n";
  for (const LearnCurve& curve : curves) {
    text += printed("<tr><td>%s</td><td>%.3f</td><td>%.3f</td><td>%.0f</td><td>%s</td></tr>\n",
                    escaped(curve.name).c_str(),
                    curve.points.empty() ? 0.0 : curve.points.back().second, curve.accept_len,
                    curve.rows_per_s, escaped(curve.recipe).c_str());
  }
  return text + "</table>\n</html>\n";
}

}  // namespace aurora
