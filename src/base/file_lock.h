// An advisory lock on a file, held by one process at a time. The kernel drops it when the holder
// dies, whatever way; a stopped holder keeps it. Never inherited over exec.
#pragma once

#include <string>

#include "base/file_handle.h"
#include "base/status.h"

namespace aurora {

class FileLock {
 public:
  // Creates the file (0600) when missing. kUnavailable when somebody else still holds it after
  // `wait_ms`; 0 tries once.
  static Result<FileLock> acquire(const std::string& path, int wait_ms);

 private:
  explicit FileLock(FileHandle handle) : handle_(std::move(handle)) {}
  FileHandle handle_;  // flock(2) belongs to it: closing releases
};

}  // namespace aurora
