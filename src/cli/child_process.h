// A program started as a child that ends with its parent.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace aurora {

struct ChildProgram {
  std::string path;
  std::vector<std::string> args;              // argv[1...]
  std::vector<std::string> environment = {};  // "NAME=value", before what this process has
};

// The child gets SIGTERM when the calling thread ends. -1: the system starts no more processes;
// the child exits with 127 when the program cannot be run.
pid_t start_child(const ChildProgram& program);

}  // namespace aurora
