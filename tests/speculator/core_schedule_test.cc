#include "speculator/core_schedule.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

// Share of the time with a core lent, in steps of 50 ms.
double lent_share(CoreSchedule& schedule, int64_t from_us, int64_t us, bool wanted = true) {
  int64_t lent = 0, steps = 0;
  for (int64_t now = from_us; now < from_us + us; now += 50'000, ++steps)
    lent += schedule.threads(now, wanted) < 2 ? 1 : 0;
  return static_cast<double>(lent) / static_cast<double>(steps);
}

TEST(CoreSchedule, LendsTheShareAndNoMore) {
  CoreSchedule schedule({.threads = 2});
  EXPECT_NEAR(lent_share(schedule, 1'000'000, 100'000'000), 0.25, 0.03);
}

TEST(CoreSchedule, LendsNothingThatNobodyWants) {
  CoreSchedule schedule({.threads = 2});
  EXPECT_EQ(lent_share(schedule, 1'000'000, 100'000'000, false), 0);
  CoreSchedule closed({.threads = 2, .share = 0});
  EXPECT_EQ(lent_share(closed, 1'000'000, 100'000'000), 0);
  CoreSchedule single({.threads = 1});
  EXPECT_EQ(single.threads(10'000'000, true), 1) << "the last thread serves";
}

TEST(CoreSchedule, LendsLessWhileNothingNewComes) {
  CoreSchedule schedule({.threads = 2});
  schedule.new_draft(1'000'000);
  const double fresh = lent_share(schedule, 1'000'000, 60'000'000);
  const double stale = lent_share(schedule, 4'000'000'000, 60'000'000);
  EXPECT_NEAR(fresh, 0.24, 0.03);
  EXPECT_NEAR(stale, 0.05, 0.03);
  schedule.new_draft(4'100'000'000);
  EXPECT_NEAR(lent_share(schedule, 4'100'000'000, 60'000'000), 0.24, 0.03);
  EXPECT_NEAR(lent_share(schedule, 8'000'000'000, 60'000'000), 0.05, 0.03);
  schedule.traffic_moved(8'100'000'000);
  EXPECT_NEAR(lent_share(schedule, 8'100'000'000, 60'000'000), 0.24, 0.03);
}

TEST(CoreSchedule, LendsAllOfItUntilTheFirstDraft) {
  CoreSchedule schedule({.threads = 2});
  schedule.traffic_moved(1'000'000);
  EXPECT_NEAR(lent_share(schedule, 8'000'000'000, 60'000'000), 0.25, 0.03);
}

TEST(CoreSchedule, TheTrainerHasTheOtherCores) {
  EXPECT_EQ(CoreSchedule::cores_left(2, 2), 0);
  EXPECT_EQ(CoreSchedule::cores_left(2, 1), 1);
  EXPECT_EQ(CoreSchedule::cores_left(16, 8), 8);
  EXPECT_EQ(CoreSchedule::cores_left(1, 2), 0);
}

}  // namespace
}  // namespace aurora
