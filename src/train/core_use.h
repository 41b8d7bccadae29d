// The trainer's cores: as many threads as --train-threads says, fewer while a server of the same
// state folder lends fewer (base/core_lease.h). A server that lends none is served at once: the
// trainer's threads are in the idle class, so one goes on with what is left over.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/core_lease.h"

namespace aurora {

// For --train-threads auto: the cores that are allowed, shared by the ranks on this machine
// (LOCAL_WORLD_SIZE).
int threads_of_machine();

class CoreUse {
 public:
  // set_threads: called between two steps, with 1 to threads_max. No lease can be opened: always
  // all threads, and a log line.
  CoreUse(const std::string& state_dir, int threads_max, std::function<void(int)> set_threads);

  // Between two steps: whether there is work for the next one.
  void next_step(bool work);

 private:
  const int threads_max_;
  const std::function<void(int)> set_threads_;
  std::optional<CoreBorrower> lease_;
};

}  // namespace aurora
