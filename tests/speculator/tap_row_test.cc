#include "speculator/tap_row.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace aurora {
namespace {

TEST(TapRow, RoundsAndClamps) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> from = {0.0f,   1.0f, -5.0f, 65504.0f, 65520.0f,       1e9f,
                                   -1e30f, kInf, -kInf, 1e-9f,    0.333251953125f};
  std::vector<uint16_t> to(from.size());
  taps_to_fp16(from, to);
  EXPECT_EQ(to, (std::vector<uint16_t>{0, 0x3C00, 0xC500, 0x7BFF, 0x7BFF, 0x7BFF, 0xFBFF, 0x7BFF,
                                       0xFBFF, 0, 0x3555}));
}

TEST(TapRow, OfAnyLength) {
  for (const size_t count : {0u, 1u, 255u, 256u, 257u, 1536u}) {
    const std::vector<float> from(count, 70000.0f);
    std::vector<uint16_t> to(count);
    taps_to_fp16(from, to);
    EXPECT_EQ(to, std::vector<uint16_t>(count, 0x7BFF));
  }
}

TEST(TapRow, NanStaysNan) {
  const float from[] = {std::nanf("")};
  uint16_t to[1];
  taps_to_fp16(from, to);
  EXPECT_EQ(to[0] & 0x7C00, 0x7C00);
  EXPECT_NE(to[0] & 0x03FF, 0);
}

}  // namespace
}  // namespace aurora
