// A pipe that nobody reads in the place of stderr.
#include "base/line_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

namespace aurora {
namespace {

constexpr std::chrono::milliseconds kLong(20'000);

class LineWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::pipe2(ends_, O_CLOEXEC), 0);
    writer_.emplace(ends_[1]);
  }
  void TearDown() override {
    ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
    while (!writer_->flush(std::chrono::milliseconds(1))) read_some();
    writer_.reset();
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  void read_some() {
    char piece[1 << 16];
    const ssize_t got = ::read(ends_[0], piece, sizeof piece);
    if (got > 0) text_.append(piece, static_cast<size_t>(got));
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> out;
    for (size_t begin = 0, end; (end = text_.find('\n', begin)) != std::string::npos;
         begin = end + 1)
      out.push_back(text_.substr(begin, end - begin));
    return out;
  }

  int ends_[2] = {-1, -1};
  std::optional<LineWriter> writer_;
  std::string text_;
};

TEST_F(LineWriterTest, LinesComeInOrderAndWhole) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(writer_->offer("line " + std::to_string(i)));
  ASSERT_TRUE(writer_->flush(kLong));
  read_some();
  const auto got = lines();
  ASSERT_EQ(got.size(), 100u);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], "line " + std::to_string(i));
  EXPECT_EQ(writer_->dropped(), 0u);
}

TEST_F(LineWriterTest, ALongLineIsCutAndEnds) {
  writer_->offer(std::string(5000, 'x'));
  writer_->offer("next");
  ASSERT_TRUE(writer_->flush(kLong));
  read_some();
  const auto got = lines();
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].size(), LineWriter::kLineBytes - 1);
}

TEST_F(LineWriterTest, NobodyWaitsWhereNobodyReadsAndALineSaysHowManyAreLost) {
  constexpr uint64_t kOffered = 5000;
  const std::string line(1000, 'x');
  uint64_t taken = 0;
  const int64_t begin_us = steady_us();
  for (uint64_t i = 0; i < kOffered; ++i) taken += writer_->offer(line) ? 1 : 0;
  EXPECT_LT(steady_us() - begin_us, 5'000'000);
  EXPECT_EQ(writer_->dropped(), kOffered - taken);
  EXPECT_GT(writer_->dropped(), kOffered / 2);
  EXPECT_FALSE(writer_->flush(std::chrono::milliseconds(20)));

  // It flows again.
  ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
  const std::string told = std::to_string(kOffered - taken) + " lines were dropped";
  const int64_t give_up_us = steady_us() + 20'000'000;
  while (text_.find(told) == std::string::npos && steady_us() < give_up_us) read_some();
  EXPECT_NE(text_.find(told), std::string::npos);
  while (!writer_->flush(std::chrono::milliseconds(1)))
    read_some();  // that line may overtake others
  read_some();
  EXPECT_EQ(lines().size(), taken + 1);
  EXPECT_TRUE(writer_->offer("again"));
}

TEST_F(LineWriterTest, ManyThreadsLoseNothingThatWasTaken) {
  ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
  std::atomic<uint64_t> taken{0};
  std::vector<std::thread> threads;
  std::atomic<int> running{4};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i)
        taken += writer_->offer("t" + std::to_string(t) + " " + std::to_string(i)) ? 1 : 0;
      --running;
    });
  while (running > 0) read_some();
  for (auto& thread : threads) thread.join();
  while (!writer_->flush(std::chrono::milliseconds(1))) read_some();
  read_some();
  uint64_t ours = 0;
  for (const auto& line : lines()) ours += line[0] == 't' ? 1 : 0;
  EXPECT_EQ(ours, taken.load());
  EXPECT_EQ(taken + writer_->dropped(), 8000u);
}

// Each in a process of its own, begun anew.
TEST(LogDeathTest, TheLastLineIsReadHoweverTheProcessEnds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        LOG_WARN("test", "the end of %s", "exit");
        std::exit(0);
      },
      testing::ExitedWithCode(0), "aurora.test W the end of exit\n");
  EXPECT_EXIT(
      {
        LOG_WARN("test", "the end of %s", "_exit");
        flush_log();
        ::_exit(0);
      },
      testing::ExitedWithCode(0), "the end of _exit\n");
  EXPECT_DEATH(CHECK(1 + 1 == 3), "CHECK\\(1 \\+ 1 == 3\\) failed");
}

}  // namespace
}  // namespace aurora
