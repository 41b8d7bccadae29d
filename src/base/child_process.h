// A program started as a child that ends with its parent, and what a parent does when it ends.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

struct ChildProgram {
  std::string path;
  std::vector<std::string> args;              // argv[1...]
  std::vector<std::string> environment = {};  // "NAME=value", before what this process has
  int stderr_fd = -1;                         // its stderr; -1: ours
};

// Costs the same however much memory this process has. The child is told whom to follow
// (base/background.h). not_found: there is no such program; unavailable: the system starts no more
// processes now.
Result<pid_t> start_child(const ChildProgram& program);

struct ChildEnd {
  int code = 0;  // exit code, or 128 + signal; kUnknownExit: somebody else has waited for it
  bool by_signal = false;
  std::string said = {};  // its last line, where somebody has kept it
};
inline constexpr int kUnknownExit = -1;

// Does not wait. Nothing: it still runs.
std::optional<ChildEnd> child_end(pid_t child);

// "exit code 2", "signal 9".
std::string to_string(const ChildEnd& end);

// Seconds before the next start: from one to a minute, and one again after a run of a minute.
class RestartPause {
 public:
  int after(int64_t run_us);

 private:
  int next_s_ = 1;
};

}  // namespace aurora
