#include "base/background.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "base/files.h"

namespace aurora {
namespace {

// In a process of its own. 0: it held.
template <typename F>
int in_child(F&& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int state = 0;
  EXPECT_EQ(waitpid(child, &state, 0), child);
  return WIFEXITED(state) ? WEXITSTATUS(state) : 128;
}

TEST(Background, TheIdleClass) {
  EXPECT_EQ(in_child([] {
              lower_priority(kIdleClass);
              return sched_getscheduler(0) == SCHED_IDLE;
            }),
            0);
}

TEST(Background, ANiceValue) {
  EXPECT_EQ(in_child([] {
              lower_priority(12);
              return getpriority(PRIO_PROCESS, 0) == 12 && sched_getscheduler(0) == SCHED_OTHER;
            }),
            0);
}

TEST(Background, GoesFirstWhenMemoryRunsOut) {
  EXPECT_EQ(in_child([] {
              offer_to_oom_killer();
              const auto score = read_file("/proc/self/oom_score_adj");
              return score && std::stoi(*score) >= 800;
            }),
            0);
}

TEST(Background, FollowsTheParentThatIsNamed) {
  const std::string parent = std::to_string(getpid());
  EXPECT_EQ(in_child([&parent] {
              ::setenv(kParentVariable, parent.c_str(), 1);
              const bool follows = follow_parent();
              int signal_number = 0;
              prctl(PR_GET_PDEATHSIG, &signal_number);
              return follows && signal_number == SIGTERM;
            }),
            0);
}

TEST(Background, EndsWhereTheParentIsGoneAlready) {
  EXPECT_EQ(in_child([] {
              ::setenv(kParentVariable, "1", 1);
              (void)follow_parent();
              return false;
            }),
            0);
}

TEST(Background, NobodyIsFollowedWithoutAName) {
  EXPECT_EQ(in_child([] {
              ::unsetenv(kParentVariable);
              const bool follows = follow_parent();
              int signal_number = 0;
              prctl(PR_GET_PDEATHSIG, &signal_number);
              return !follows && signal_number == 0;
            }),
            0);
}

}  // namespace
}  // namespace aurora
