#include "speculator/tap_row.h"

#include <ggml.h>

#include <algorithm>
#include <array>

#include "base/check.h"

namespace aurora {

void taps_to_fp16(std::span<const float> from, std::span<uint16_t> to) {
  CHECK(from.size() == to.size());
  constexpr float kLargest = 65504.0f;
  std::array<float, 256> clamped;
  for (size_t begin = 0; begin < from.size(); begin += clamped.size()) {
    const auto part = from.subspan(begin, std::min(clamped.size(), from.size() - begin));
    // Both comparisons are false for NaN.
    std::transform(part.begin(), part.end(), clamped.begin(), [](float x) {
      const float below = x > kLargest ? kLargest : x;
      return below < -kLargest ? -kLargest : below;
    });
    ggml_fp32_to_fp16_row(clamped.data(), reinterpret_cast<ggml_fp16_t*>(to.data() + begin),
                          static_cast<int64_t>(part.size()));
  }
}

}  // namespace aurora
