// What a child writes to stderr, handed on to our log line by line, so that a log that nobody reads
// stops neither of us; and the last thing that it said.
#pragma once

#include <string>

#include "base/file_handle.h"

namespace aurora {

// One thread. A line is cut at 2 KiB.
class ChildLog {
 public:
  ChildLog();  // of a child to be started
  // For its stderr; -1: there is none, it keeps ours.
  int write_end() const { return write_end_.get(); }
  void started() { write_end_ = FileHandle(); }
  // Does not wait, and takes 1 MiB a call at most.
  void read_some();
  // What is there, without a line's end too: the child has ended.
  void read_rest();
  const std::string& last_line() const { return last_line_; }

 private:
  void take(const char* text, size_t bytes);
  void end_line();

  FileHandle read_end_, write_end_;
  std::string line_;  // begun
  std::string last_line_;
};

}  // namespace aurora
