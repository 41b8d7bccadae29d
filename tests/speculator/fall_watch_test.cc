#include "speculator/fall_watch.h"

#include <gtest/gtest.h>

#include <random>

namespace aurora {
namespace {

// Steps until a fall is told, at most `steps`; requests of 40 steps, each with a chance of its own
// that a drafted token is taken, around `chance`. -1: none is told.
int steps_to_fall(FallWatch& watch, double chance, int steps, std::mt19937& rng) {
  std::normal_distribution<double> spread(chance, 0.15);
  std::uniform_real_distribution<double> unit(0, 1);
  double own = chance;
  for (int i = 0; i < steps; ++i) {
    if (i % 40 == 0) own = std::clamp(spread(rng), 0.0, 1.0);
    if (watch.step()) return i;
    watch.token();
    for (int drafted = 0; drafted < 3 && unit(rng) < own; ++drafted) watch.token();
  }
  return -1;
}

TEST(FallWatch, TellsAFallOnceAndSoon) {
  std::mt19937 rng(1);
  FallWatch watch;
  EXPECT_EQ(steps_to_fall(watch, 0.5, 30'000, rng), -1);  // accept length 1.9
  const int steps = steps_to_fall(watch, 0.25, 30'000, rng);
  EXPECT_GT(steps, 0);
  EXPECT_LT(steps, 2500);
  EXPECT_EQ(steps_to_fall(watch, 0.25, 30'000, rng), -1);
}

TEST(FallWatch, ARiseIsNoFallAndIsWhatTheNextIsHeldAgainst) {
  std::mt19937 rng(2);
  FallWatch watch;
  EXPECT_EQ(steps_to_fall(watch, 0.2, 20'000, rng), -1);
  EXPECT_EQ(steps_to_fall(watch, 0.5, 40'000, rng), -1);
  EXPECT_GT(steps_to_fall(watch, 0.2, 20'000, rng), 0);
}

TEST(FallWatch, OneTrafficIsLevel) {
  std::mt19937 rng(3);
  FallWatch watch;
  int falls = 0;
  for (int i = 0; i < 20; ++i) falls += steps_to_fall(watch, 0.4, 50'000, rng) >= 0 ? 1 : 0;
  EXPECT_LE(falls, 2) << "in a million steps";
}

}  // namespace
}  // namespace aurora
