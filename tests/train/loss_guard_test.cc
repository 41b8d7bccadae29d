#include "train/loss_guard.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

// Steps until it says so; 0: it does not.
int steps_until_astray(LossGuard& guard, double loss, int steps) {
  for (int i = 1; i <= steps; ++i)
    if (guard.astray(loss)) return i;
  return 0;
}

TEST(LossGuard, ASpikeIsNoticedWithinAWindow) {
  LossGuard guard({.steps = 20});
  for (double loss = 4; loss > 1; loss *= 0.99) EXPECT_FALSE(guard.astray(loss));
  const int steps = steps_until_astray(guard, 11, 20);
  EXPECT_GT(steps, 2);  // one bad step is none
  // Its next word waits for a window of the weights it went back to.
  EXPECT_EQ(steps_until_astray(guard, 1.2, 200), 0);
  EXPECT_GT(steps_until_astray(guard, 11, 30), 2);
}

TEST(LossGuard, ItSaysSoAgainWhereGoingBackDidNotHelp) {
  LossGuard guard({.steps = 20});
  EXPECT_EQ(steps_until_astray(guard, 3, 40), 0);
  EXPECT_GT(steps_until_astray(guard, 11, 20), 0);
  EXPECT_EQ(steps_until_astray(guard, 11, 100), 20);
}

// Learnt down to 1 on the old traffic, the new traffic begins below what an unlearnt draft had.
TEST(LossGuard, AShiftOfTheTrafficIsNoSpike) {
  LossGuard guard({.steps = 20});
  for (double loss = 4; loss > 1; loss *= 0.99) EXPECT_FALSE(guard.astray(loss));
  for (double loss = 3.9; loss > 1.5; loss *= 0.995) EXPECT_FALSE(guard.astray(loss));
}

// Of two lives the second begins with a draft that has learnt: its first mean says nothing.
TEST(LossGuard, AShiftAfterARestartIsNoSpike) {
  LossGuard guard({.steps = 20});
  guard.start_from(4);
  EXPECT_EQ(steps_until_astray(guard, 1, 100), 0);
  EXPECT_EQ(steps_until_astray(guard, 3.9, 100), 0);
  EXPECT_GT(steps_until_astray(guard, 11, 20), 0);
}

TEST(LossGuard, ALossThatNeverFellIsNone) {
  LossGuard guard({.steps = 20});
  EXPECT_EQ(steps_until_astray(guard, 5, 500), 0);
}

}  // namespace
}  // namespace aurora
