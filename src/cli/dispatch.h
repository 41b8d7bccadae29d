// Commands by name: `aurora serve`, `aurora drafts list`.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace aurora {

struct Command {
  const char* name;
  int (*run)(const std::vector<std::string>& args);  // the words behind the name; the exit code
  const char* what;                                  // a line of --help
};

// Runs the one that the first word names. Without one, or with --help: the list of them.
int dispatch(const std::string& program, std::span<const Command> commands,
             const std::vector<std::string>& args);

}  // namespace aurora
