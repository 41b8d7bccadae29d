// Keeps a program running beside a server (the trainer, the rollouts): restarts it with back-off,
// ends it with the server.
#pragma once

#include <atomic>
#include <string>
#include <thread>

#include "cli/child_process.h"

namespace aurora {

class Companion {
 public:
  // name: for the log. Starts at once, on a thread of its own; serving never waits for it.
  Companion(std::string name, ChildProgram program);
  ~Companion();  // SIGTERM, ten seconds for a checkpoint, then SIGKILL

 private:
  void run();

  const std::string name_;
  const ChildProgram program_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace aurora
