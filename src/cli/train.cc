// `aurora train`: the trainer is a program of its own, so that the server's never links LibTorch.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/self_path.h"

namespace aurora {

int train_main(int argc, char** argv) {
  const std::string program = sibling_program("aurora-train");
  std::vector<char*> args(argv, argv + argc);
  args[0] = const_cast<char*>(program.c_str());
  args.push_back(nullptr);
  execv(program.c_str(), args.data());
  std::fprintf(stderr, "aurora train: cannot run %s (%s); build it with LibTorch installed\n",
               program.c_str(), std::strerror(errno));
  return 1;
}

}  // namespace aurora
