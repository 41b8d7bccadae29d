// A server that a bench starts, asks and ends: `aurora serve` or a plain llama-server.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

struct ServerCommand {
  std::string program;
  std::vector<std::string> args;  // without a port
  std::string log;                // file that gets what it says
};

// Ended with this object, and with this process however that ends. In a process group of its own:
// a Ctrl-C is the bench's to handle. Start it from the main thread: the kernel ends the child with
// the thread that has started it.
class ServerChild {
 public:
  // Returns when it answers. unavailable: it ended, or was not ready within `seconds`; the message
  // has the end of its log.
  static Result<std::unique_ptr<ServerChild>> start(ServerCommand command, double seconds);
  ~ServerChild();  // SIGTERM, a minute, SIGKILL
  ServerChild(const ServerChild&) = delete;
  ServerChild& operator=(const ServerChild&) = delete;

  std::string url() const;
  bool alive();

  // The trainer that it has started; 0: none now.
  pid_t trainer() const;
  // SIGSTOP or SIGCONT to it. A stopped one is lent no core, and let go on before the server ends.
  void let_trainer_run(bool run);

  std::string log_end() const;

 private:
  explicit ServerChild(ServerCommand command) : command_(std::move(command)) {}
  Status spawn();
  Status wait_ready(double seconds);

  const ServerCommand command_;
  int port_ = 0;
  pid_t pid_ = 0;  // 0: has ended and been waited for
  bool trainer_stopped_ = false;
};

// Free now, and below the range from which the system takes ports of outgoing connections.
Result<int> free_port();

}  // namespace aurora
