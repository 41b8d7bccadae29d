#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/clock.h"

namespace aurora {

Result<FileLock> FileLock::acquire(const std::string& path, int wait_ms) {
  FileHandle handle(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!handle.is_open()) {
    return Status::io("cannot open lock file " + path + ": " + std::strerror(errno));
  }
  const int64_t deadline_us = steady_us() + int64_t{wait_ms} * 1000;
  while (::flock(handle.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return Status::io("cannot lock " + path + ": " + std::strerror(errno));
    }
    if (steady_us() >= deadline_us) {
      return Status::unavailable(path + " is locked by another process");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return FileLock(std::move(handle));
}

}  // namespace aurora
