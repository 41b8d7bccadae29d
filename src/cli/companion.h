// Keeps a program running beside a server (the trainer, the rollouts): restarts it with back-off,
// ends it with the server.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "base/child_process.h"
#include "cli/child_log.h"

namespace aurora {

struct CompanionOptions {
  std::string name;  // for the log
  // Each time it has ended while the server goes on, but for kHeldElsewhereExit. On the companion's
  // thread.
  std::function<void(const ChildEnd&)> on_end = {};
  std::function<Result<pid_t>(const ChildProgram&)> start = start_child;
  int held_elsewhere_s = 60;  // between two looks whether the work has become free
};

class Companion {
 public:
  // Starts at once, on a thread of its own; serving never waits for it. A program that cannot be
  // run, or says that its flags are wrong, is not tried again.
  Companion(CompanionOptions options, ChildProgram program);
  ~Companion();  // SIGTERM, ten seconds for a checkpoint, then SIGKILL

  // Any thread. Stopped where it stands (SIGSTOP) until it is let go, within a tenth of a second.
  void hold(bool held) { held_ = held; }
  // Any thread. The process is there, whether it says anything or not.
  bool runs() const { return runs_; }

 private:
  void run();
  ChildEnd wait_for(pid_t child, ChildLog& log);
  bool again_after(const ChildEnd& end, int64_t run_us);
  void tell(const ChildEnd& end) const;
  void pause(int seconds) const;

  const CompanionOptions options_;
  const ChildProgram program_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> held_{false}, runs_{false};
  RestartPause pause_;           // the thread's
  bool held_elsewhere_ = false;  // the last end; the same again is not logged
  std::thread thread_;
};

}  // namespace aurora
