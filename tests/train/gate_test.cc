#include "train/gate.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

// Served tokens s0 ... s6. Step 1 (prefill) gives s0. Column 0 leads by 2: s1 s2 s3. Column 3 leads
// by 0: s4. Column 4 by 1: s5 s6. Four steps for seven tokens; columns 1, 2 and 5 are never drafted
// from.
TEST(Gate, Walk) {
  const ReplayScore score = walk({2, 9, 9, 0, 1, 9}, 7);
  EXPECT_EQ(score.tokens, 7);
  EXPECT_EQ(score.steps, 4);
  EXPECT_EQ(walk({}, 1).steps, 1);
  EXPECT_EQ(walk({0, 0, 0}, 4).steps, 4);
  EXPECT_EQ(walk({}, 0).steps, 0);
  EXPECT_EQ(total({{7, 4}, {1, 1}}).accept_len(), 1.6);
  EXPECT_EQ(total({}).accept_len(), 1.0);
}

TEST(Gate, FirstDraftMustPay) {
  EXPECT_TRUE(decide({{20, 16}}, {}, {.pays_above = 1.2}).publish);
  const GateDecision no = decide({{20, 17}}, {}, {.pays_above = 1.2});
  EXPECT_FALSE(no.publish);
  EXPECT_NE(no.reason.find("1.200"), std::string::npos);
  EXPECT_FALSE(decide({}, {}, {}).publish);
}

TEST(Gate, BetterThanTheDraftInServiceBeyondNoise) {
  const std::vector<ReplayScore> service = {{60, 50}, {60, 48}, {60, 52}, {60, 50}};
  EXPECT_TRUE(decide({{60, 45}, {60, 44}, {60, 46}, {60, 45}}, service, {}).publish);
  EXPECT_FALSE(decide(service, service, {}).publish);
  // Three steps saved in all, but by one lucky request.
  EXPECT_FALSE(decide({{60, 30}, {60, 56}, {60, 58}, {60, 53}}, service, {}).publish);
  EXPECT_FALSE(decide({{60, 55}, {60, 55}, {60, 55}, {60, 55}}, service, {}).publish);
}

}  // namespace
}  // namespace aurora
