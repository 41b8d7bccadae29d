#include "base/child_process.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/background.h"
#include "base/self_path.h"

namespace aurora {
namespace {

constexpr int kPauseSecondsMax = 60;
constexpr int64_t kHealthyUs = 60'000'000;

// A parent may ignore SIGCHLD; a child that waits for its own must not inherit that.
class SpawnAttributes {
 public:
  SpawnAttributes() {
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGCHLD);
    ::posix_spawnattr_init(&attributes_);
    ::posix_spawnattr_setsigdefault(&attributes_, &defaults);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnAttributes() { ::posix_spawnattr_destroy(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

class SpawnFiles {
 public:
  explicit SpawnFiles(int stderr_fd) {
    ::posix_spawn_file_actions_init(&actions_);
    if (stderr_fd >= 0) ::posix_spawn_file_actions_adddup2(&actions_, stderr_fd, STDERR_FILENO);
  }
  ~SpawnFiles() { ::posix_spawn_file_actions_destroy(&actions_); }
  SpawnFiles(const SpawnFiles&) = delete;
  SpawnFiles& operator=(const SpawnFiles&) = delete;
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

}  // namespace

Result<pid_t> start_child(const ChildProgram& program) {
  const std::vector<char*> argv = exec_args(program.path, program.args);
  std::string follow = std::string(kParentVariable) + "=" + std::to_string(::getpid());
  std::vector<char*> environment = {follow.data()};
  for (const std::string& entry : program.environment)
    environment.push_back(const_cast<char*>(entry.c_str()));
  for (char** entry = environ; *entry; ++entry) environment.push_back(*entry);
  environment.push_back(nullptr);
  pid_t child = 0;
  const SpawnFiles files(program.stderr_fd);
  const int error = ::posix_spawn(&child, program.path.c_str(), files.get(),
                                  SpawnAttributes().get(), argv.data(), environment.data());
  if (error == 0) return child;
  std::string message = "cannot start " + program.path + ": " + std::strerror(error);
  const bool never = error == ENOENT || error == EACCES || error == ENOEXEC || error == ENOTDIR;
  return never ? Status::not_found(std::move(message)) : Status::unavailable(std::move(message));
}

std::optional<ChildEnd> child_end(pid_t child) {
  int state = 0;
  const pid_t waited = ::waitpid(child, &state, WNOHANG);
  if (waited == 0 || (waited < 0 && errno == EINTR)) return std::nullopt;
  if (waited < 0) return ChildEnd{kUnknownExit, false, {}};  // SIGCHLD is ignored
  if (WIFSIGNALED(state)) return ChildEnd{128 + WTERMSIG(state), true, {}};
  return ChildEnd{WEXITSTATUS(state), false, {}};
}

std::string to_string(const ChildEnd& end) {
  if (end.code == kUnknownExit) return "exit code unknown";
  return end.by_signal ? "signal " + std::to_string(end.code - 128)
                       : "exit code " + std::to_string(end.code);
}

int RestartPause::after(int64_t run_us) {
  if (run_us > kHealthyUs) next_s_ = 1;
  const int now_s = next_s_;
  next_s_ = std::min(kPauseSecondsMax, next_s_ * 2);
  return now_s;
}

}  // namespace aurora
