#include "speculator/law.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace aurora {
namespace {

std::vector<float> random_logits(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, 4.0f);
  std::vector<float> logits(count);
  for (float& value : logits) value = normal(rng);
  return logits;
}

// The same in double, by a full sort.
void expect_law(const std::vector<float>& logits, size_t k) {
  double maximum = *std::max_element(logits.begin(), logits.end()), sum = 0;
  for (const float value : logits) sum += std::exp(double{value} - maximum);
  const double log_normaliser = maximum + std::log(sum);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  std::vector<int32_t> ids(k);
  std::vector<float> logprobs(k);
  LawScratch scratch;
  ASSERT_TRUE(top_law(logits, ids, logprobs, scratch));
  for (size_t i = 0; i < k; ++i) {
    EXPECT_EQ(ids[i], order[i]);
    EXPECT_NEAR(logprobs[i], logits[static_cast<size_t>(order[i])] - log_normaliser, 2e-5);
  }
  const TopToken top = top_token(logits);
  EXPECT_EQ(top.id, order[0]);
  EXPECT_NEAR(top.prob, std::exp(maximum - log_normaliser), 1e-5);
}

TEST(Law, EqualsAFullSortInDouble) {
  for (const size_t count : {64u, 65u, 1000u, 49152u, 151936u}) {
    expect_law(random_logits(count, static_cast<uint32_t>(count)), 64);
  }
}

TEST(Law, TiesGoToTheLowerId) { expect_law(std::vector<float>(5000, 1.5f), 64); }

TEST(Law, ImpossibleTokensCountNothing) {
  std::vector<float> logits = random_logits(4096, 3);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i % 8 != 0) logits[i] = -std::numeric_limits<float>::infinity();
  }
  expect_law(logits, 64);
}

// A target's numbers are not ours: what is no law gives none, whatever the logits hold.
TEST(Law, LogitsThatAreNoLaw) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  std::vector<int32_t> ids(64, -7);
  std::vector<float> logprobs(64, 1.0f);
  for (const size_t count : {64u, 1000u, 1003u, 49152u}) {
    LawScratch scratch;
    for (const float value : {kNan, kInf, -kInf}) {
      const std::vector<float> all(count, value);
      EXPECT_FALSE(top_law(all, ids, logprobs, scratch)) << count << " of " << value;
      EXPECT_EQ(top_token(all).prob, 0.0f);
    }
    std::vector<float> few(count, kNan);
    for (size_t i = 0; i < 63; ++i) few[i * (count / 64)] = 1.0f;
    EXPECT_FALSE(top_law(few, ids, logprobs, scratch));
    std::vector<float> one = random_logits(count, 5);
    one[count / 2] = kInf;
    EXPECT_FALSE(top_law(one, ids, logprobs, scratch));
  }
  LawScratch scratch;
  EXPECT_FALSE(top_law(random_logits(63, 1), ids, logprobs, scratch));  // fewer tokens than k
  EXPECT_EQ(ids, std::vector<int32_t>(64, -7));
}

}  // namespace
}  // namespace aurora
