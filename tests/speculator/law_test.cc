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
  top_law(logits, ids, logprobs, scratch);
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

}  // namespace
}  // namespace aurora
