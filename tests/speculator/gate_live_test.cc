#include "speculator/gate_live.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace aurora {
namespace {

// A chain of two drafted tokens, each accepted with the same chance: 1, 2 or 3 tokens a step.
class Stream {
 public:
  Stream(uint32_t seed, double accept) : rng_(seed), accept_(accept) {}
  int step() {
    int tokens = 1;
    while (tokens < 3 && chance_(rng_) < accept_) ++tokens;
    return tokens;
  }

 private:
  std::mt19937 rng_;
  std::uniform_real_distribution<double> chance_{0, 1};
  double accept_;
};

LiveAdvice feed(LiveGate& gate, int64_t version, Stream stream, int64_t steps) {
  LiveAdvice advice = LiveAdvice::kNone;
  for (int64_t i = 0; i < steps && advice == LiveAdvice::kNone; ++i) {
    advice = gate.observe(version, stream.step(), 1);
  }
  return advice;
}

// Version 1 is the last good one, seen for `steps`; version 2 has just been adopted.
LiveGate with_good(Stream stream, int64_t steps) {
  LiveGate gate;
  gate.adopt(1);
  for (int64_t i = 0; i < steps; ++i) gate.observe(1, stream.step(), 1);
  EXPECT_EQ(gate.last_good(), 1);
  gate.adopt(2);
  return gate;
}

TEST(LiveGate, FirstVersionIsGoodAfterEnoughSteps) {
  LiveGate gate;
  EXPECT_EQ(gate.last_good(), 0);
  gate.adopt(7);
  Stream stream(1, 0.3);
  for (int i = 0; i < 299; ++i) ASSERT_EQ(gate.observe(7, stream.step(), 1), LiveAdvice::kNone);
  EXPECT_EQ(gate.observe(7, 1, 1), LiveAdvice::kPromote);
  EXPECT_EQ(gate.last_good(), 7);
  EXPECT_EQ(gate.observe(7, 1, 1), LiveAdvice::kNone);
  EXPECT_NE(gate.explain().find("version 7"), std::string::npos);
}

TEST(LiveGate, EqualVersionsRarelyAlarmAndAreMostlyPromoted) {
  int alarms = 0;
  int promoted = 0;
  for (uint32_t pair = 0; pair < 1000; ++pair) {
    LiveGate gate = with_good(Stream(2 * pair + 1, 0.35), 3000);
    const LiveAdvice advice = feed(gate, 2, Stream(2 * pair + 2, 0.35), 20'000);
    alarms += advice == LiveAdvice::kRollBack;
    promoted += advice == LiveAdvice::kPromote;
  }
  EXPECT_LT(alarms, 10);
  EXPECT_GT(promoted, 980);
  RecordProperty("alarms", alarms);
}

TEST(LiveGate, TenPercentWorseIsCaughtWithin3000Steps) {
  // 1 + p + p^2: 1.4725 at 0.35; 10 % less at 0.2528.
  int caught = 0;
  for (uint32_t pair = 0; pair < 200; ++pair) {
    LiveGate gate = with_good(Stream(2 * pair + 1, 0.35), 3000);
    if (feed(gate, 2, Stream(2 * pair + 2, 0.2528), 3000) != LiveAdvice::kRollBack) continue;
    ++caught;
    EXPECT_EQ(gate.last_good(), 1);
  }
  EXPECT_GE(caught, 199);
}

TEST(LiveGate, BetterIsPromotedSoonAndBecomesTheMeasure) {
  LiveGate gate = with_good(Stream(1, 0.3), 2000);
  EXPECT_EQ(feed(gate, 2, Stream(2, 0.45), 1000), LiveAdvice::kPromote);
  EXPECT_EQ(gate.last_good(), 2);
  gate.adopt(3);
  EXPECT_EQ(feed(gate, 3, Stream(3, 0.25), 3000), LiveAdvice::kRollBack);
  EXPECT_EQ(gate.last_good(), 2);
  EXPECT_NE(gate.explain().find("version 2"), std::string::npos);
  gate.adopt(2);  // back in service: nothing left to decide
  EXPECT_EQ(feed(gate, 2, Stream(4, 0.05), 5000), LiveAdvice::kNone);
}

TEST(LiveGate, ASmallLossIsNotWorthASwap) {
  // 2 % worse, known beyond any doubt.
  LiveGateOptions options;
  options.z_equal = 1e9;  // only the bound on steps ends it
  options.steps_max = 400'000;
  LiveGate gate(options);
  Stream good(1, 0.35);
  gate.adopt(1);
  for (int i = 0; i < 400'000; ++i) gate.observe(1, good.step(), 1);
  gate.adopt(2);
  EXPECT_NE(feed(gate, 2, Stream(2, 0.3324), 400'000), LiveAdvice::kRollBack);
}

TEST(LiveGate, CountsWholeRequestsByTheirSpread) {
  // Steps within a request are all alike, requests differ: the variance of a step must not come out
  // smaller than what the requests show.
  LiveGate gate;
  gate.adopt(1);
  std::mt19937 rng(5);
  std::bernoulli_distribution coin(0.5);
  for (int i = 0; i < 500; ++i) gate.observe(1, coin(rng) ? 100 : 200, 100);
  const LiveGate::Stats* stats = gate.find(1);
  ASSERT_NE(stats, nullptr);
  EXPECT_EQ(stats->steps, 50'000);
  EXPECT_NEAR(stats->mean(), 1.5, 0.07);
  // Variance of a request's total is 2500 = 100 steps of 25.
  EXPECT_NEAR(stats->variance(), 25, 1);
}

TEST(LiveGate, SilentStreamsDivideByNothing) {
  LiveGate gate;
  gate.adopt(1);
  for (int i = 0; i < 1000; ++i) gate.observe(1, 2, 1);
  gate.adopt(2);
  LiveAdvice advice = LiveAdvice::kNone;
  for (int i = 0; i < 1000 && advice == LiveAdvice::kNone; ++i) advice = gate.observe(2, 1, 1);
  EXPECT_EQ(advice, LiveAdvice::kRollBack);
  EXPECT_EQ(gate.observe(0, 1, 1), LiveAdvice::kNone);
  EXPECT_EQ(gate.observe(2, 1, 0), LiveAdvice::kNone);
  EXPECT_EQ(gate.observe(2, -1, 1), LiveAdvice::kNone);
}

TEST(LiveGate, RemembersEightVersionsAndTheGoodOne) {
  LiveGate gate = with_good(Stream(1, 0.35), 3000);
  for (int64_t version = 2; version < 100; ++version) {
    gate.adopt(version);
    EXPECT_EQ(feed(gate, version, Stream(9, 0.35), 50), LiveAdvice::kNone);
  }
  EXPECT_NE(gate.find(1), nullptr);
  EXPECT_NE(gate.find(99), nullptr);
  EXPECT_NE(gate.find(93), nullptr);
  EXPECT_EQ(gate.find(92), nullptr);
  gate.adopt(1);
  EXPECT_EQ(gate.observe(99, 1, 1), LiveAdvice::kNone);  // a late step of another version
  EXPECT_EQ(gate.find(99)->observations, 51);
}

}  // namespace
}  // namespace aurora
