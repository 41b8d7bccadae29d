#include "draft/taps.h"

#include <gtest/gtest.h>

#include <vector>

namespace aurora {
namespace {

std::vector<int> taps_of(int layers) {
  int32_t taps[3];
  default_tap_layers(layers, taps);
  return {taps, taps + 3};
}

TEST(DefaultTapLayers, LowMiddleAndInputOfTheLast) {
  EXPECT_EQ(taps_of(30), (std::vector<int>{2, 15, 29}));
  EXPECT_EQ(taps_of(3), (std::vector<int>{2, 1, 2}));
}

TEST(DefaultTapLayers, AreLayersOfTheTarget) {
  EXPECT_EQ(taps_of(2), (std::vector<int>{1, 1, 1}));
  EXPECT_EQ(taps_of(1), (std::vector<int>{0, 0, 0}));
}

}  // namespace
}  // namespace aurora
