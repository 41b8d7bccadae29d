// The small parts of the draft service: cost of a step, acceptance, repeated text, the plan, the
// trial.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "speculator/accept_stats.h"
#include "speculator/chain_cost.h"
#include "speculator/draft_plan.h"
#include "speculator/ngram_index.h"
#include "speculator/step_cost.h"
#include "speculator/traffic_texts.h"
#include "speculator/version_trial.h"

namespace aurora {
namespace {

StepCost cost_of(std::initializer_list<StepPoint> points) {
  StepCost cost;
  cost.measured(std::vector<StepPoint>(points));
  return cost;
}

TEST(StepCost, IsALineBetweenWhatWasMeasured) {
  const StepCost cost = cost_of({{1, 10}, {4, 16}, {8, 32}});
  EXPECT_DOUBLE_EQ(cost.ms(1), 10);
  EXPECT_DOUBLE_EQ(cost.ms(2), 12);
  EXPECT_DOUBLE_EQ(cost.ms(6), 24);
  EXPECT_DOUBLE_EQ(cost.ms(16), 64) << "the last line goes on";
  EXPECT_DOUBLE_EQ(cost.ms(2 * kStepRowsMax), 32 + 4.0 * (2 * kStepRowsMax - 8));
}

TEST(StepCost, NoiseNeverMakesMoreRowsCheaper) {
  const StepCost cost = cost_of({{1, 10}, {2, 9}, {4, 12}});
  EXPECT_GE(cost.ms(2), cost.ms(1));
}

TEST(StepCost, FollowsASlowerMachineInRowsNeverSeen) {
  StepCost cost = cost_of({{1, 10}, {8, 20}});
  for (int i = 0; i < 60; ++i) cost.observe(1, 30);
  EXPECT_NEAR(cost.ms(1), 30, 1);
  EXPECT_NEAR(cost.ms(8), 60, 6);
  cost.observe(1, 3000);  // a stall is no step
  EXPECT_LT(cost.ms(1), 32);
}

TEST(StepCost, KeepsTheTimeOfALentCoreApart) {
  StepCost cost = cost_of({{1, 10}});
  cost.use(StepCost::kLent);
  for (int i = 0; i < 60; ++i) cost.observe(1, 18);
  EXPECT_NEAR(cost.ms(1), 18, 0.5);
  cost.use(StepCost::kAll);
  EXPECT_DOUBLE_EQ(cost.ms(1), 10);
}

TEST(StepCost, UnmeasuredCostsTheSameForEveryRowCount) {
  const StepCost cost;
  EXPECT_EQ(cost.ms(1), cost.ms(100));
}

TEST(AcceptStats, LearnsAndForgets) {
  AcceptStats stats(0.5);
  for (int i = 0; i < 300; ++i) stats.observe(0, 0, 3, true);
  EXPECT_GT(stats.rate(0, 0), 0.9);
  EXPECT_GT(stats.rate(0, 0, 3), 0.9);
  for (int i = 0; i < 200; ++i) stats.observe(0, 0, 3, false);
  EXPECT_LT(stats.rate(0, 0), 0.1) << "traffic has turned";
}

TEST(AcceptStats, WhatIsUnusedFadesToThePrior) {
  AcceptStats stats(0.5);
  for (int i = 0; i < 300; ++i) stats.observe(0, 0, 3, false);
  for (int i = 0; i < 30'000; ++i) stats.tick();
  EXPECT_GT(stats.rate(0, 0), 0.45);
}

TEST(AcceptStats, AKindLeansOnTheOthersUntilItIsKnown) {
  AcceptStats stats(0.5);
  for (int i = 0; i < 300; ++i) stats.observe(0, 0, -1, true);
  EXPECT_GT(stats.rate(2, 0), 0.9);
  for (int i = 0; i < 60; ++i) stats.observe(2, 0, -1, false);
  EXPECT_LT(stats.rate(2, 0), 0.35);
  EXPECT_GT(stats.rate(0, 0), stats.rate(2, 0));
}

TEST(AcceptStats, ANewVersionBeginsWithItsOwnPrior) {
  AcceptStats old(0.5);
  for (int i = 0; i < 300; ++i) old.observe(0, 0, 3, false);
  const AcceptStats fresh = AcceptStats::continued(old, 0.1, 0.8, 24);
  EXPECT_LT(old.rate(0, 0), 0.1);
  EXPECT_GT(fresh.rate(0, 0), 0.5);
}

std::vector<int32_t> tokens_of(std::initializer_list<int32_t> list) { return list; }

TEST(NgramIndex, FindsTheLongestAndLatestRepeat) {
  NgramIndex index(256);
  for (const int32_t token : {1, 2, 3, 4, 5, 6, 9, 9, 2, 3, 4, 7, 8}) index.append(token);
  const auto tail = tokens_of({9, 2, 3, 4});
  const NgramIndex::Match match = index.find(tail);
  ASSERT_EQ(match.length, 4);
  std::vector<int32_t> more;
  index.copy(match.next, 5, more);
  EXPECT_EQ(more, tokens_of({7, 8}));
  EXPECT_EQ(index.find(tokens_of({2, 3, 5})).length, 0);
  EXPECT_EQ(index.find(tokens_of({3, 4})).length, 0) << "two tokens say too little";
}

TEST(NgramIndex, BreaksAndTheRingBoundAMatch) {
  NgramIndex index(64);
  for (const int32_t token : {1, 2, 3, 4, 5}) index.append(token);
  index.append(NgramIndex::kBreak);
  for (const int32_t token : {6, 1, 2, 3}) index.append(token);
  std::vector<int32_t> more;
  index.copy(index.find(tokens_of({1, 2, 3})).next, 9, more);
  EXPECT_EQ(more, tokens_of({4, 5}));
  for (int32_t token = 1000; token < 1100; ++token) index.append(token);
  EXPECT_EQ(index.find(tokens_of({1, 2, 3})).length, 0) << "overwritten";
  EXPECT_EQ(index.end() - index.begin(), 64u);
}

TEST(NgramIndex, RandomTextNeverLies) {
  std::mt19937 random(3);
  NgramIndex index(512);
  std::vector<int32_t> text;
  for (int i = 0; i < 20'000; ++i) {
    text.push_back(static_cast<int32_t>(random() % 6));
    index.append(text.back());
    const auto tail = std::span(text).last(std::min<size_t>(text.size(), 40));
    const NgramIndex::Match match = index.find(tail);
    if (match.length == 0) continue;
    for (int k = 0; k < match.length; ++k)
      ASSERT_EQ(text[match.next - 1 - static_cast<size_t>(k)], tail[tail.size() - 1 - k]);
  }
}

TEST(TrafficTexts, KeepsTenantsApartAndForgetsWhatExpires) {
  TrafficTexts texts(1 << 20);
  const auto prompt = tokens_of({1, 2, 3});
  const auto answer = tokens_of({4, 5, 6, 7});
  texts.add(prompt, answer, "a", 1000);
  std::vector<int32_t> more;
  EXPECT_EQ(texts.find(tokens_of({3, 4, 5}), "b", 10, 4, more), 0);
  EXPECT_EQ(texts.find(tokens_of({3, 4, 5}), "a", 1000, 4, more), 0) << "expired";
  EXPECT_EQ(texts.find(tokens_of({3, 4, 5}), "a", 999, 4, more), 3);
  EXPECT_EQ(more, tokens_of({6, 7}));
}

TEST(TrafficTexts, BytesAreBounded) {
  TrafficTexts texts(64u << 10);
  std::vector<int32_t> text(300);
  for (int i = 0; i < 2000; ++i) {
    std::iota(text.begin(), text.end(), i);
    texts.add(text, text, "t" + std::to_string(i % 3), 0);
  }
  EXPECT_LT(texts.texts(), 20u);
  TrafficTexts none(0);
  none.add(text, text, "", 0);
  EXPECT_EQ(none.texts(), 0u);
}

TEST(DraftPlan, RowsGoWhereTheyAreLikelyTaken) {
  const StepCost cost = cost_of({{1, 10}, {2, 10.5}, {4, 11}, {8, 20}});
  const std::vector<std::vector<double>> survival = {{0.9, 0.8, 0.1}, {0.5, 0.05}};
  const RowAllocation rows = allocate_rows(survival, 100, 0, cost);
  EXPECT_EQ(rows.depth[0], 2);
  EXPECT_LE(rows.depth[1], 1);
  EXPECT_EQ(allocate_rows(survival, 1, 0, cost).depth, (std::vector<int32_t>{1, 0}));
  EXPECT_EQ(allocate_rows(survival, 0, 0, cost).depth, (std::vector<int32_t>{0, 0}));
}

TEST(DraftPlan, AStepBehindACliffIsTakenWhenItPays) {
  // Row 3 is dear, rows 4 to 8 come with it.
  const StepCost cost = cost_of({{1, 10}, {2, 10}, {3, 13}, {8, 13}});
  const std::vector<std::vector<double>> sure = {{0.95, 0.94, 0.93, 0.92, 0.91, 0.9, 0.89}};
  EXPECT_EQ(allocate_rows(sure, 16, 0, cost).depth[0], 7);
}

TEST(DraftPlan, TheChainIsDrivenOnlyWhereItPays) {
  const StepCost cost = cost_of({{1, 10}, {4, 11}});
  const std::vector<SlotChances> likely = {{{}, {0.7, 0.49, 0.34}}};
  EXPECT_TRUE(plan_step(likely, 16, {1.5, 1, 0}, cost).chain[0]);
  EXPECT_FALSE(plan_step(likely, 16, {15, 10, 0}, cost).chain[0]);
  EXPECT_FALSE(plan_step(likely, 16, {1.5, 1, 50}, cost).chain[0]) << "rows to build first";
  const std::vector<SlotChances> repeats = {{{0.9, 0.85, 0.8}, {0.7, 0.49, 0.34}}};
  EXPECT_FALSE(plan_step(repeats, 16, {1.5, 1, 0}, cost).chain[0]) << "repeated text is free";
}

TEST(ChainCost, TellsBuildingFromDrafting) {
  ChainCostMeter meter;
  for (int i = 0; i < 20; ++i) meter.first(1, 3, 2.0, 50);
  for (int i = 0; i < 20; ++i) meter.next(1, 1.0, 50);
  meter.first(1, 200, 12.0, 50);
  const ChainCost cost = meter.expected(1, 100, 50);
  EXPECT_NEAR(cost.first_ms, 2, 0.1);
  EXPECT_NEAR(cost.next_ms, 1, 0.1);
  EXPECT_NEAR(cost.fill_ms, 4.8, 0.5);
}

// Another process at the start: what was seen then is corrected by the first few drafts without it.
TEST(ChainCost, ABusyStartIsForgotten) {
  ChainCostMeter meter;
  for (int i = 0; i < 4; ++i) meter.first(1, 3, 400, 10);
  for (int i = 0; i < 8; ++i) meter.first(1, 3, 1.0, 10);
  EXPECT_LT(meter.expected(1, 3, 10).first_ms, 1.3);
  meter.first(1, 3, 400, 10);
  EXPECT_LT(meter.expected(1, 3, 10).first_ms, 1.6) << "a stall";
  for (int i = 0; i < 100; ++i) meter.first(1, 3, 2.0, 10);
  EXPECT_NEAR(meter.expected(1, 3, 10).first_ms, 2, 0.1) << "it does cost more now";
}

TEST(StepCost, ABusyStartIsForgotten) {
  StepCost cost = cost_of({{1, 10}, {2, 30}, {4, 60}, {8, 40}, {16, 160}});
  EXPECT_DOUBLE_EQ(cost.ms(4), 40) << "more rows cost no less";
  EXPECT_DOUBLE_EQ(cost.ms(2), 20) << "nor more than one by one";
  for (int i = 0; i < 30; ++i) {
    cost.observe(1, 10);
    cost.observe(2, 11);
  }
  EXPECT_NEAR(cost.ms(1), 10, 1);
  EXPECT_NEAR(cost.ms(2), 11, 2);
  EXPECT_LT(cost.ms(4), 25) << "not tried yet: as far off as two rows were";
}

TEST(StepCost, WhatCouldNotBeMeasuredIsCheapUntilItIsTried) {
  StepCost cost = cost_of({{1, 15}, {2, 2900}});  // the machine was so busy
  EXPECT_LT(cost.ms(4), 20);
  for (int i = 0; i < 30; ++i) cost.observe(4, 60);
  EXPECT_NEAR(cost.ms(4), 60, 3);
}

TEST(VersionTrial, TellsWorseFromBetterAndLetsEqualsStay) {
  std::mt19937 random(5);
  const auto feed = [&](VersionTrial& trial, VersionTrial::Side side, double accept) {
    TrialBlock block{16, 160, 16, 16, 0};
    for (int i = 0; i < 16; ++i)
      block.first_taken += std::bernoulli_distribution(accept)(random) ? 1 : 0;
    block.tokens += static_cast<double>(block.first_taken);
    trial.observe(side, block);
  };
  const auto run = [&](double good, double tried) {
    VersionTrial trial;
    trial.begin();
    while (trial.advice() == TrialAdvice::kGoOn) {
      feed(trial, VersionTrial::kGood, good);
      feed(trial, VersionTrial::kNew, tried);
    }
    return trial.advice();
  };
  int stayed = 0;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(run(0.8, 0.2), TrialAdvice::kPutAway);
    EXPECT_EQ(run(0.2, 0.8), TrialAdvice::kPromote);
    stayed += run(0.5, 0.5) == TrialAdvice::kPromote ? 1 : 0;
  }
  EXPECT_GE(stayed, 85);
}

// Four slots where a draft hardly pays: both sides make the tokens of no draft.
TEST(VersionTrial, WithoutDraftedTokensNothingIsSaid) {
  std::mt19937 random(5);
  VersionTrial trial;
  trial.begin();
  const auto feed = [&](VersionTrial::Side side, int64_t tried, int64_t taken) {
    const double cost =
        0.2 * static_cast<double>(tried) + std::normal_distribution(0.0, 2.0)(random);
    trial.observe(side, {16.0 + static_cast<double>(taken), 160 + cost, 16, tried, taken});
  };
  for (int i = 0; i < 60; ++i) {
    feed(VersionTrial::kGood, 0, 0);
    feed(VersionTrial::kNew, 0, 0);
    EXPECT_EQ(trial.advice(), TrialAdvice::kGoOn);
  }
  EXPECT_FALSE(trial.overdue());
  for (int i = 0; i < 60; ++i) feed(VersionTrial::kNew, 0, 0);
  EXPECT_TRUE(trial.overdue()) << "a newer one may take its place";
  for (int i = 0; i < 40 && trial.advice() == TrialAdvice::kGoOn; ++i) {
    feed(VersionTrial::kGood, 1, i % 2);
    feed(VersionTrial::kNew, 1, 0);
  }
  EXPECT_EQ(trial.advice(), TrialAdvice::kPutAway) << trial.explain();
}

}  // namespace
}  // namespace aurora
