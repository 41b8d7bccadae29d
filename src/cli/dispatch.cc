#include "cli/dispatch.h"

#include <cstdio>

namespace aurora {
namespace {

std::string usage(const std::string& program, std::span<const Command> commands) {
  std::string text = "usage: " + program + " COMMAND [flags]; " + program + " COMMAND --help\n\n";
  for (const Command& command : commands) {
    std::string left = std::string("  ") + command.name;
    left.resize(12, ' ');
    text += left + command.what + "\n";
  }
  return text;
}

}  // namespace

int dispatch(const std::string& program, std::span<const Command> commands,
             const std::vector<std::string>& args) {
  if (args.empty()) {
    std::fputs(usage(program, commands).c_str(), stderr);
    return 2;
  }
  const std::string& name = args[0];
  if (name == "--help" || name == "-h" || name == "help") {
    std::fputs(usage(program, commands).c_str(), stdout);
    return 0;
  }
  for (const Command& command : commands)
    if (name == command.name) return command.run({args.begin() + 1, args.end()});
  std::fprintf(stderr, "%s: there is no command '%s'; `%s --help` lists them\n", program.c_str(),
               name.c_str(), program.c_str());
  return 2;
}

}  // namespace aurora
