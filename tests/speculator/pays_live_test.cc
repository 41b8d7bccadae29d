#include "speculator/pays_live.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

// Requests of 50 steps; how many of them were drafted for.
int serve(PaysLive& live, int requests, double accept_len) {
  int drafted = 0;
  for (int i = 0; i < requests; ++i) {
    if (!live.ask()) continue;
    ++drafted;
    live.observe(static_cast<int64_t>(50 * accept_len), 50);
  }
  return drafted;
}

TEST(PaysLive, DraftsWhileItPays) {
  PaysLive live;
  live.set_threshold(1.6);
  EXPECT_EQ(serve(live, 40, 2.0), 40);
}

TEST(PaysLive, ProbesAfterAShiftAndComesBack) {
  PaysLive live;
  live.set_threshold(1.6);
  serve(live, 40, 2.4);
  EXPECT_LE(serve(live, 40, 1.2), 20);  // some requests until it is sure, then one in four
  EXPECT_EQ(serve(live, 40, 1.2), 10);
  serve(live, 40, 2.4);
  EXPECT_EQ(serve(live, 40, 2.4), 40);
}

TEST(PaysLive, ANewVersionIsTriedAtOnce) {
  PaysLive live;
  live.set_threshold(1.6);
  serve(live, 41, 1.2);
  ASSERT_FALSE(live.pays());
  live.adopt();
  EXPECT_TRUE(live.ask());
  live.observe(100, 50);
  EXPECT_TRUE(live.pays());
}

TEST(PaysLive, WithoutAThresholdAlways) {
  PaysLive live;
  EXPECT_EQ(serve(live, 40, 1.0), 40);
}

}  // namespace
}  // namespace aurora
