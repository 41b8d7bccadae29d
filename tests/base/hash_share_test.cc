#include "base/hash_share.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>

namespace aurora {
namespace {

// Counts of `draws` shares in twenty equal parts of [0, 1): each within five standard deviations.
template <typename Share>
void expect_even(int draws, Share&& share) {
  std::array<int, 20> counts{};
  for (int i = 0; i < draws; ++i) {
    const double s = share(i);
    ASSERT_GE(s, 0.0);
    ASSERT_LT(s, 1.0);
    ++counts[static_cast<size_t>(s * 20)];
  }
  const double wanted = draws / 20.0, deviation = std::sqrt(wanted);
  for (const int count : counts) EXPECT_NEAR(count, wanted, 5 * deviation);
}

TEST(HashShare, NumbersInARowSpreadEvenly) {
  for (const uint64_t first : {uint64_t{0}, uint64_t{0xdeadbeef} << 32}) {
    expect_even(20000, [&](int i) { return hash_share(first + static_cast<uint64_t>(i)); });
  }
}

TEST(HashShare, NamesThatDifferInTheirEndSpreadEvenly) {
  expect_even(2000, [](int i) { return hash_share("aurora-serve-" + std::to_string(i)); });
}

// Servers of two versions must agree: these come from an independent implementation in Python.
TEST(HashShare, TheValuesStay) {
  EXPECT_DOUBLE_EQ(hash_share(uint64_t{0}), 0.8833108082136426);
  EXPECT_DOUBLE_EQ(hash_share(uint64_t{12345}), 0.1330796686614273);
  EXPECT_DOUBLE_EQ(hash_share("aurora-serve-0"), 0.9994944347619654);
}

}  // namespace
}  // namespace aurora
