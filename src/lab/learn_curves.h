// The picture and the page of `aurora bench learn`: accept length against served tokens, a line a
// variant.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace aurora {

struct LearnCurve {
  std::string name;
  std::string recipe;                              // its flags, as given
  std::vector<std::pair<int64_t, double>> points;  // served tokens, accept length of a window
  double accept_len = 0;                           // of the whole stream
  double rows_per_s = 0;
};

std::string learn_curves_svg(const std::vector<LearnCurve>& curves);
std::string learn_curves_html(const std::vector<LearnCurve>& curves);  // self-contained, no script

}  // namespace aurora
