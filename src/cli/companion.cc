#include "cli/companion.h"

#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>

#include "base/clock.h"
#include "base/log.h"

namespace aurora {
namespace {

constexpr int kBackoffSecondsMax = 60;
constexpr int kHealthySeconds = 60;  // ran this long: the back-off starts anew
constexpr std::chrono::milliseconds kPoll(100);

}  // namespace

Companion::Companion(std::string name, ChildProgram program)
    : name_(std::move(name)), program_(std::move(program)), thread_([this] { run(); }) {}

Companion::~Companion() {
  stopping_ = true;
  thread_.join();
}

void Companion::run() {
  int backoff_s = 1;
  while (!stopping_) {
    // A server that dies takes it along.
    const pid_t child = start_child(program_);
    if (child < 0) {
      LOG_ERROR("cli", "%s could not be started; serving goes on without", name_.c_str());
      return;
    }
    LOG_INFO("cli", "%s started, pid %d", name_.c_str(), static_cast<int>(child));
    const int64_t started_us = steady_us();
    int64_t term_sent_us = 0;
    int state = 0;
    while (waitpid(child, &state, WNOHANG) == 0) {
      if (stopping_ && term_sent_us == 0) {
        kill(child, SIGTERM);
        kill(child, SIGCONT);
        term_sent_us = steady_us();
      }
      if (term_sent_us != 0 && steady_us() - term_sent_us > 10'000'000) kill(child, SIGKILL);
      std::this_thread::sleep_for(kPoll);
    }
    if (stopping_) return;
    if (WIFEXITED(state) && (WEXITSTATUS(state) == 2 || WEXITSTATUS(state) == 127)) {
      LOG_ERROR("cli",
                "%s does not start (exit code %d, see its line above); serving goes on without",
                name_.c_str(), WEXITSTATUS(state));
      return;
    }
    if (steady_us() - started_us > kHealthySeconds * 1'000'000ll) backoff_s = 1;
    LOG_WARN("cli", "%s ended (%s %d); again in %d s", name_.c_str(),
             WIFSIGNALED(state) ? "signal" : "exit code",
             WIFSIGNALED(state) ? WTERMSIG(state) : WEXITSTATUS(state), backoff_s);
    for (int i = 0; i < backoff_s * 10 && !stopping_; ++i) std::this_thread::sleep_for(kPoll);
    backoff_s = std::min(kBackoffSecondsMax, backoff_s * 2);
  }
}

}  // namespace aurora
