#include "lab/server_child.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "base/clock.h"
#include "lab/process_info.h"

namespace aurora {
namespace {

std::string log_path() { return testing::TempDir() + "/server-child.log"; }

TEST(ServerChild, SaysWhyItDidNotStart) {
  const auto missing = ServerChild::start({"/nowhere/llama-server", {}, log_path()}, 5);
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  const auto ended =
      ServerChild::start({"/bin/sh", {"-c", "echo no model; exit 3"}, log_path()}, 5);
  EXPECT_EQ(ended.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(ended.status().message().find("no model"), std::string::npos);
}

TEST(ServerChild, OneThatNeverAnswersIsEnded) {
  const std::string pid_file = testing::TempDir() + "/server-child.pid";
  const int64_t begin_us = steady_us();
  const auto silent = ServerChild::start(
      {"/bin/sh", {"-c", "echo $$ >" + pid_file + "; exec sleep 60"}, log_path()}, 0.5);
  EXPECT_EQ(silent.status().code(), StatusCode::kUnavailable);
  EXPECT_LT(steady_us() - begin_us, 20'000'000);
  pid_t pid = 0;
  std::ifstream(pid_file) >> pid;
  ASSERT_GT(pid, 0);
  EXPECT_NE(::kill(pid, 0), 0) << "it still runs";
}

TEST(ProcessInfo, FindsAChildAndItsTime) {
  EXPECT_FALSE(child_called(::getpid(), "sleep"));
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sleep", "sleep", "60", nullptr);
    ::_exit(127);
  }
  std::optional<pid_t> found;
  for (int tries = 0; tries < 500 && !found; ++tries) {
    ::usleep(10'000);
    found = child_called(::getpid(), "sleep");
  }
  EXPECT_EQ(found, child);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(cpu_seconds(child), 0) << "gone";

  const double before = cpu_seconds(::getpid());
  const int64_t begin_us = steady_us();
  while (cpu_seconds(::getpid()) <= before + 0.05 && steady_us() - begin_us < 20'000'000) {
  }
  EXPECT_GT(cpu_seconds(::getpid()), before + 0.05);
}

}  // namespace
}  // namespace aurora
