// With a shell script in a trainer's place.
#include "cli/companion.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <mutex>

#include "base/clock.h"
#include "base/temp_dir.h"

namespace aurora {
namespace {

constexpr int64_t kWaitUs = 30'000'000;

class CompanionTest : public testing::Test {
 protected:
  void TearDown() override { companion_.reset(); }

  // Writes its pid, then does `body`.
  void keep(const std::string& body, CompanionOptions options = {}) {
    const std::string program = dir_ / "child.sh";
    std::ofstream(program) << "#!/bin/sh\ncd '" << dir_.path() << "'\necho $$ >> started\n"
                           << body << "\n";
    ASSERT_EQ(chmod(program.c_str(), 0700), 0);
    keep_program({program, {}}, std::move(options));
  }
  void keep_program(ChildProgram program, CompanionOptions options = {}) {
    options.name = "child";
    options.on_end = [this](const ChildEnd& end) {
      last_code_ = end.code;
      {
        const std::lock_guard lock(said_mutex_);
        said_ = end.said;
      }
      ++ends_;
    };
    companion_ = std::make_unique<Companion>(std::move(options), std::move(program));
  }
  int starts() const {
    std::ifstream in(dir_ / "started");
    int count = 0;
    for (std::string line; std::getline(in, line);) ++count;
    return count;
  }
  void wait_starts(int count) const {
    const int64_t give_up_us = steady_us() + kWaitUs;
    while (starts() < count && steady_us() < give_up_us) usleep(10'000);
    EXPECT_GE(starts(), count);
  }

  TempDir dir_;
  std::string said() {
    const std::lock_guard lock(said_mutex_);
    return said_;
  }

  std::mutex said_mutex_;
  std::string said_;
  std::atomic<int> ends_{0}, last_code_{-2};
  std::unique_ptr<Companion> companion_;
};

TEST_F(CompanionTest, WhatEndsIsStartedAgainAndReported) {
  keep("exit 7");
  wait_starts(3);
  EXPECT_GE(ends_, 2);
  EXPECT_EQ(last_code_, 7);
}

TEST_F(CompanionTest, WhatItSaidLastIsKept) {
  keep("echo first >&2\nprintf 'no room on the disk' >&2\nexit 1");
  wait_starts(2);
  EXPECT_EQ(said(), "no room on the disk");
}

// More than a pipe holds, in one go and without an end of line.
TEST_F(CompanionTest, AChildThatSaysMuchIsNotHeldUp) {
  keep("head -c 300000 /dev/zero | tr '\\0' x >&2\necho >&2\necho done >&2\nexit 1");
  wait_starts(2);
  EXPECT_EQ(said(), "done");
}

TEST_F(CompanionTest, ASignalIsReportedAsShellsDo) {
  keep("kill -KILL $$");
  wait_starts(2);
  EXPECT_EQ(last_code_, 128 + SIGKILL);
}

TEST_F(CompanionTest, WrongFlagsAreNotTriedAgain) {
  keep("exit 2");
  wait_starts(1);
  usleep(2'500'000);
  EXPECT_EQ(starts(), 1);
}

TEST_F(CompanionTest, WorkThatAnotherDoesIsLookedAtNowAndThen) {
  CompanionOptions options;
  options.held_elsewhere_s = 2;
  keep("exit 4", options);
  wait_starts(1);
  usleep(1'500'000);
  EXPECT_EQ(starts(), 1);  // not after a second, as another end would be
  wait_starts(3);
  EXPECT_EQ(ends_, 0);
}

// The live page's switch for training. Who stands still is still ended with the server.
TEST_F(CompanionTest, AHeldChildStandsStillUntilItIsLetGo) {
  keep("while :; do echo . >> beats; sleep 0.02; done");
  wait_starts(1);
  const auto beats = [this] {
    std::ifstream in(dir_ / "beats", std::ios::ate);
    return in ? static_cast<int64_t>(in.tellg()) : 0;
  };
  const auto wait_beats = [&](int64_t count) {
    const int64_t give_up_us = steady_us() + kWaitUs;
    while (beats() < count && steady_us() < give_up_us) usleep(10'000);
    EXPECT_GE(beats(), count);
  };
  wait_beats(2);
  companion_->hold(true);
  usleep(500'000);
  const int64_t stood = beats();
  usleep(300'000);
  EXPECT_EQ(beats(), stood);
  companion_->hold(false);
  wait_beats(stood + 4);
  companion_->hold(true);
  usleep(300'000);
  const int64_t begin_us = steady_us();
  companion_.reset();
  EXPECT_LT(steady_us() - begin_us, 8'000'000) << "SIGTERM reaches it";
}

// A system that starts no process now may do so later.
TEST_F(CompanionTest, AFailedStartIsTriedAgain) {
  CompanionOptions options;
  options.start = [tries = 0](const ChildProgram& program) mutable -> Result<pid_t> {
    if (++tries < 3) return Status::unavailable("no more processes");
    return start_child(program);
  };
  keep("exec sleep 60", options);  // no grandchild stays and holds our output open
  wait_starts(1);
}

// Then nobody learns its exit code; it must not be taken for running, nor for success.
TEST_F(CompanionTest, AnIgnoredSigchld) {
  const auto before = ::signal(SIGCHLD, SIG_IGN);
  keep("exit 7");
  wait_starts(2);
  EXPECT_EQ(last_code_, kUnknownExit);
  companion_.reset();
  ::signal(SIGCHLD, before);
}

TEST_F(CompanionTest, AMissingProgramIsNotTriedAgain) {
  EXPECT_EQ(start_child({"/nonexistent/aurora-train", {}}).status().code(), StatusCode::kNotFound);
  const int64_t begin_us = steady_us();
  keep_program({"/nonexistent/aurora-train", {}});
  companion_.reset();
  EXPECT_LT(steady_us() - begin_us, 5'000'000);
  EXPECT_EQ(ends_, 0);
}

TEST_F(CompanionTest, TheChildHearsWhomToFollowAndLeavesWhenAsked) {
  keep(
      "echo $AURORA_PARENT_PID > parent\ntrap 'echo bye > left; exit 0' TERM\n"
      "while :; do sleep 0.05; done");
  wait_starts(1);
  usleep(300'000);
  companion_.reset();
  std::string parent, left;
  std::ifstream(dir_ / "parent") >> parent;
  std::ifstream(dir_ / "left") >> left;
  EXPECT_EQ(parent, std::to_string(getpid()));
  EXPECT_EQ(left, "bye");
}

}  // namespace
}  // namespace aurora
