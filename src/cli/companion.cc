#include "cli/companion.h"

#include <algorithm>
#include <chrono>
#include <csignal>

#include "base/clock.h"
#include "base/exit_code.h"
#include "base/log.h"

namespace aurora {
namespace {

constexpr std::chrono::milliseconds kPoll(100);
constexpr int64_t kLeaveUs = 10'000'000;  // for a checkpoint, after SIGTERM

}  // namespace

Companion::Companion(CompanionOptions options, ChildProgram program)
    : options_(std::move(options)), program_(std::move(program)), thread_([this] { run(); }) {}

Companion::~Companion() {
  stopping_ = true;
  thread_.join();
}

void Companion::run() {
  const char* name = options_.name.c_str();
  while (!stopping_) {
    ChildLog log;
    ChildProgram program = program_;
    program.stderr_fd = log.write_end();
    const auto child = options_.start(program);
    log.started();
    if (!child && child.status().code() == StatusCode::kNotFound) {
      LOG_ERROR("cli", "%s does not start: %s; serving goes on without", name,
                child.status().message().c_str());
      return;
    }
    if (!child) {
      const int wait_s = pause_.after(0);
      LOG_WARN("cli", "%s: %s; again in %d s", name, child.status().message().c_str(), wait_s);
      pause(wait_s);
      continue;
    }
    if (!held_elsewhere_) LOG_INFO("cli", "%s started, pid %d", name, static_cast<int>(*child));
    const int64_t started_us = steady_us();
    runs_ = true;
    const ChildEnd end = wait_for(*child, log);
    runs_ = false;
    if (stopping_) return;
    if (!again_after(end, steady_us() - started_us)) return;
  }
}

ChildEnd Companion::wait_for(pid_t child, ChildLog& log) {
  int64_t term_sent_us = 0;
  bool held = false;
  for (;;) {
    log.read_some();
    if (auto end = child_end(child)) {
      log.read_rest();
      end->said = log.last_line();
      return *end;
    }
    if (const bool wanted = held_; wanted != held && !stopping_) {
      kill(child, wanted ? SIGSTOP : SIGCONT);
      held = wanted;
    }
    if (stopping_ && term_sent_us == 0) {
      kill(child, SIGTERM);
      kill(child, SIGCONT);
      term_sent_us = steady_us();
    }
    if (term_sent_us != 0 && steady_us() - term_sent_us > kLeaveUs) kill(child, SIGKILL);
    std::this_thread::sleep_for(kPoll);
  }
}

bool Companion::again_after(const ChildEnd& end, int64_t run_us) {
  const char* name = options_.name.c_str();
  if (!end.by_signal && (end.code == kBadSetupExit || end.code == kCannotRunExit)) {
    LOG_ERROR("cli", "%s does not start (%s, see its line above); serving goes on without", name,
              to_string(end).c_str());
    tell(end);
    return false;
  }
  const bool held = !end.by_signal && end.code == kHeldElsewhereExit;
  if (held && !held_elsewhere_)
    LOG_INFO("cli", "another %s works for this state folder; looking again every %d s", name,
             options_.held_elsewhere_s);
  held_elsewhere_ = held;
  if (held) {
    pause(options_.held_elsewhere_s);
    return true;
  }
  tell(end);
  const int wait_s = pause_.after(run_us);
  LOG_WARN("cli", "%s ended (%s); again in %d s", name, to_string(end).c_str(), wait_s);
  pause(wait_s);
  return true;
}

void Companion::tell(const ChildEnd& end) const {
  if (options_.on_end) options_.on_end(end);
}

void Companion::pause(int seconds) const {
  const int64_t until_us = steady_us() + int64_t{seconds} * 1'000'000;
  while (!stopping_ && steady_us() < until_us) std::this_thread::sleep_for(kPoll);
}

}  // namespace aurora
