#include "base/background.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/files.h"
#include "base/log.h"
#include "base/parse_number.h"

namespace aurora {
namespace {

constexpr const char* kRestarted = "AURORA_RESTARTED";
constexpr const char* kOomFile = "/proc/self/oom_score_adj";
constexpr int kOomScore = 800;  // of -1000 (never) to 1000 (first)
constexpr int kNiceMax = 19;

}  // namespace

bool follow_parent() {
  const char* text = std::getenv(kParentVariable);
  pid_t parent = 0;
  if (text == nullptr || !parse_number<pid_t>(text, 1, INT_MAX, parent)) return false;
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  // The parent reads the log: without it there is a checkpoint still.
  std::signal(SIGPIPE, SIG_IGN);
  if (::getppid() != parent) std::_Exit(0);
  return true;
}

void lower_priority(int nice) {
  if (nice == kIdleClass) {
    const sched_param none{};
    if (::sched_setscheduler(0, SCHED_IDLE, &none) == 0) return;
    LOG_WARN("cli", "no idle class here (%s): nice %d instead", std::strerror(errno), kNiceMax);
    nice = kNiceMax;
  }
  if (::setpriority(PRIO_PROCESS, 0, nice) != 0) LOG_WARN("cli", "cannot set nice %d", nice);
}

void offer_to_oom_killer() {
  int score = 0;
  auto text = read_file(kOomFile, 64);
  if (text && text->ends_with('\n')) text->pop_back();
  if (!text || !parse_number(*text, -1000, 1000, score) || score >= kOomScore) return;
  std::FILE* file = std::fopen(kOomFile, "we");
  if (file == nullptr) return;
  std::fprintf(file, "%d", kOomScore);
  std::fclose(file);
}

void restart_with(const std::vector<Variable>& variables, char** argv) {
  if (std::getenv(kRestarted) != nullptr) {
    ::unsetenv(kRestarted);
    return;
  }
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return;
  path[length] = '\0';
  for (const Variable& v : variables) ::setenv(v.name, v.value.c_str(), v.ours ? 1 : 0);
  ::setenv(kRestarted, "1", 1);
  flush_log();
  ::execv(path, argv);
  LOG_WARN("cli", "cannot start %s anew: %s", path, std::strerror(errno));
  ::unsetenv(kRestarted);
}

}  // namespace aurora
