// Trainer ranks as real processes, for tests: this program again, once a rank, with torchrun's
// environment. A test's own main() asks rank_test() whether it is such a rank.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/free_port.h"

namespace aurora {

// What the test asks of a rank, or nullptr in the test itself.
inline const char* rank_test() { return std::getenv("AURORA_RANK_TEST"); }

struct RankRun {
  std::string test;  // what rank_test() is in each rank
  int size = 2;
  std::vector<std::string> args;  // argv[1...] of each rank
  int kill_rank = -1;             // gets AURORA_KILL_AFTER = kill_after
  int kill_after = 0;
  bool kill_the_rest = false;  // once rank 0 has ended
};

// waitpid()'s state of each rank, by rank.
inline std::vector<int> run_ranks(const RankRun& run) {
  const std::string port = std::to_string(free_port());
  std::vector<pid_t> ranks;
  for (int rank = 0; rank < run.size; ++rank) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      setenv("AURORA_RANK_TEST", run.test.c_str(), 1);
      setenv("RANK", std::to_string(rank).c_str(), 1);
      setenv("WORLD_SIZE", std::to_string(run.size).c_str(), 1);
      setenv("MASTER_ADDR", "127.0.0.1", 1);
      setenv("MASTER_PORT", port.c_str(), 1);
      if (rank == run.kill_rank)
        setenv("AURORA_KILL_AFTER", std::to_string(run.kill_after).c_str(), 1);
      std::vector<char*> argv = {const_cast<char*>("rank")};
      for (const std::string& arg : run.args) argv.push_back(const_cast<char*>(arg.c_str()));
      argv.push_back(nullptr);
      execv("/proc/self/exe", argv.data());
      _exit(127);
    }
    ranks.push_back(pid);
  }
  std::vector<int> states;
  for (const pid_t pid : ranks) {
    if (run.kill_the_rest && !states.empty()) kill(pid, SIGKILL);
    states.push_back(0);
    CHECK(waitpid(pid, &states.back(), 0) == pid);
  }
  return states;
}

inline bool all_done(const std::vector<int>& states) {
  for (const int state : states)
    if (!WIFEXITED(state) || WEXITSTATUS(state) != 0) return false;
  return true;
}

}  // namespace aurora
