// Keeps aurora-train running beside a server: restarts it with back-off, ends it with the server.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace aurora {

class TrainerProcess {
 public:
  // program: path of aurora-train. Starts at once, on a thread of its own; serving never waits for
  // it.
  TrainerProcess(std::string program, std::vector<std::string> args);
  ~TrainerProcess();  // SIGTERM, ten seconds for a checkpoint, then SIGKILL

 private:
  void run();

  const std::string program_;
  const std::vector<std::string> args_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace aurora
