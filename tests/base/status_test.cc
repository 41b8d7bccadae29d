#include "base/status.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

TEST(Status, SaysItsCodeAndMessage) {
  EXPECT_TRUE(Status::ok().is_ok());
  EXPECT_EQ(Status::ok().to_string(), "ok");
  EXPECT_FALSE(Status::corrupt("record crc"));
  EXPECT_EQ(Status::corrupt("record crc").to_string(), "corrupt: record crc");
}

TEST(Result, HoldsAValueOrAStatus) {
  const Result<int> good = 7;
  ASSERT_TRUE(good);
  EXPECT_EQ(*good, 7);
  const Result<int> bad = Status::not_found("x");
  EXPECT_FALSE(bad);
  EXPECT_EQ(bad.status().code(), StatusCode::kNotFound);
}

TEST(ResultDeathTest, ReadingTheValueOfAFailureIsOurFault) {
  const Result<int> bad = Status::not_found("x");
  EXPECT_DEATH((void)bad.value(), "CHECK");
}

}  // namespace
}  // namespace aurora
