#include "cli/child_process.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>

#include "cli/self_path.h"

namespace aurora {

pid_t start_child(const ChildProgram& program) {
  const std::vector<char*> argv = exec_args(program.path, program.args);
  std::vector<char*> environment;
  for (const std::string& entry : program.environment)
    environment.push_back(const_cast<char*>(entry.c_str()));
  for (char** entry = environ; *entry; ++entry) environment.push_back(*entry);
  environment.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child != 0) return child;
  // Between fork and exec only what is async-signal-safe.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);
  execve(program.path.c_str(), argv.data(), environment.data());
  _exit(127);
}

}  // namespace aurora
