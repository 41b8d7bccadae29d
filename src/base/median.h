// The middle of a few measurements.
#pragma once

#include <algorithm>
#include <vector>

namespace aurora {

// Upper middle of an even count, 0 of none.
inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace aurora
