// `aurora train --nproc N` with a shell script in a trainer's place.
#include "cli/rank_launcher.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/temp_dir.h"

namespace aurora {
namespace {

constexpr int64_t kWaitUs = 30'000'000;

class RankLauncher : public testing::Test {
 protected:
  void TearDown() override {
    if (launcher_ > 0) kill(launcher_, SIGTERM), waitpid(launcher_, nullptr, 0);
  }

  // Each rank is ready for SIGTERM, then writes a line "rank of count, address, port, its argument,
  // pid" and does `body`.
  void launch(const std::string& body, int count) {
    const std::string program = dir_ / "trainer.sh";
    std::ofstream(program) << "#!/bin/sh\ncd '" << dir_.path() << "'\n"
                           << "trap 'echo $RANK >> left; exit 0' TERM\n"
                           << "echo $RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT $1 $$ >> started\n"
                           << body << "\n";
    ASSERT_EQ(chmod(program.c_str(), 0700), 0);
    launch_program(program, count);
  }
  // In a process of its own: it takes SIGTERM and SIGINT for itself.
  void launch_program(const std::string& program, int count) {
    launched_us_ = steady_us();
    launcher_ = fork();
    if (launcher_ == 0) _exit(run_ranks(program, {"argument"}, count));
    ASSERT_GT(launcher_, 0);
  }

  std::vector<std::string> lines(const std::string& name = "started") const {
    std::vector<std::string> found;
    std::ifstream in(dir_ / name);
    for (std::string line; std::getline(in, line);) found.push_back(line);
    return found;
  }
  std::vector<std::string> wait_lines(size_t count, const std::string& name = "started") const {
    const int64_t give_up_us = steady_us() + kWaitUs;
    while (lines(name).size() < count && steady_us() < give_up_us) usleep(10'000);
    EXPECT_EQ(lines(name).size(), count) << name;
    return lines(name);
  }
  // -1: it still runs.
  int exit_code() {
    const int64_t give_up_us = steady_us() + kWaitUs;
    int state = 0;
    while (waitpid(launcher_, &state, WNOHANG) == 0) {
      if (steady_us() > give_up_us) return -1;
      usleep(10'000);
    }
    launcher_ = 0;
    return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  }
  double elapsed_s() const { return static_cast<double>(steady_us() - launched_us_) / 1e6; }
  void signal(int number) const { kill(launcher_, number); }

 private:
  TempDir dir_;
  pid_t launcher_ = 0;
  int64_t launched_us_ = 0;
};

// A shell looks at signals between two commands.
const std::string kUntilAsked = "while :; do sleep 0.05; done";
// A rank that ends has the other one killed, perhaps before that has written its line.
const std::string kBothStarted =
    "until [ $(grep -c '^0 ' started) = $(grep -c '^1 ' started) ]; do sleep 0.05; done\n";

TEST_F(RankLauncher, GivesEachRankItsEnvironmentAndEndsWithThem) {
  launch("exit 0", 3);
  EXPECT_EQ(exit_code(), 0);
  std::vector<std::string> started = lines();
  std::sort(started.begin(), started.end());
  ASSERT_EQ(started.size(), 3u);
  std::string port;
  for (size_t rank = 0; rank < 3; ++rank) {
    std::istringstream words(started[rank]);
    std::string number, count, address, its_port, argument;
    words >> number >> count >> address >> its_port >> argument;
    EXPECT_EQ(number, std::to_string(rank));
    EXPECT_EQ(count, "3");
    EXPECT_EQ(address, "127.0.0.1");
    EXPECT_EQ(argument, "argument");
    if (rank > 0) {
      EXPECT_EQ(its_port, port);
    }
    port = its_port;
  }
  EXPECT_GT(std::stoi(port), 0);
}

// Rank 1 is killed in the first two rounds: each time the others are asked to leave and all start
// again, after one second and then after two.
TEST_F(RankLauncher, ALostRankStartsAllAgainAfterAPauseThatGrows) {
  launch("if [ $RANK = 1 ] && [ $(grep -c '^1 ' started) -le 2 ]; then\n" + kBothStarted +
             "kill -KILL $$; fi\n" + kUntilAsked,
         2);
  wait_lines(4);
  EXPECT_GE(elapsed_s(), 1.0);
  wait_lines(6);
  EXPECT_GE(elapsed_s(), 3.0);
  EXPECT_EQ(wait_lines(2, "left"), (std::vector<std::string>{"0", "0"}));
  signal(SIGTERM);
  EXPECT_EQ(exit_code(), 0);
  EXPECT_EQ(wait_lines(4, "left").size(), 4u);
  EXPECT_EQ(lines().size(), 6u);
}

TEST_F(RankLauncher, SigtermEndsAllAndIsNoLoss) {
  launch(kUntilAsked, 3);
  wait_lines(3);
  signal(SIGTERM);
  EXPECT_EQ(exit_code(), 0);
  std::vector<std::string> left = wait_lines(3, "left");
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<std::string>{"0", "1", "2"}));
  for (const std::string& line : lines()) {
    const pid_t pid = std::stoi(line.substr(line.rfind(' ')));
    EXPECT_NE(kill(pid, 0), 0) << line;
  }
}

TEST_F(RankLauncher, SigtermEndsThePauseAsWell) {
  launch("exit 3", 1);
  wait_lines(4);  // started for the fourth time: the next pause is of eight seconds
  const double before_s = elapsed_s();
  usleep(500'000);
  signal(SIGTERM);
  exit_code();
  EXPECT_LT(elapsed_s() - before_s, 3.0);
  EXPECT_EQ(lines().size(), 4u);
}

TEST_F(RankLauncher, AWrongFlagIsNotTriedAgain) {
  launch("if [ $RANK = 0 ]; then\n" + kBothStarted + "exit 2; fi\n" + kUntilAsked, 2);
  EXPECT_EQ(exit_code(), 2);
  EXPECT_EQ(lines().size(), 2u);
}

TEST_F(RankLauncher, AMissingProgramIsNotTriedAgain) {
  launch_program("/nonexistent/aurora-train", 2);
  EXPECT_EQ(exit_code(), 127);
}

}  // namespace
}  // namespace aurora
