// `aurora train`: the trainer is a program of its own, so that the server's never links LibTorch.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/self_path.h"
#include "cli/command_lines.h"
#include "cli/commands.h"
#include "cli/rank_launcher.h"

namespace aurora {
namespace {

int train_on_ranks(const std::string& program, const Words& args, int count) {
  if (std::getenv("WORLD_SIZE") == nullptr) return run_ranks(program, args, count);
  return refuse("aurora train",
                Status::invalid("WORLD_SIZE is set, so another launcher starts the ranks: leave "
                                "--nproc out"));
}

int become(const std::string& program, const Words& args) {
  execv(program.c_str(), exec_args(program, args).data());
  std::fprintf(stderr, "aurora train: cannot run %s (%s); build it with LibTorch installed\n",
               program.c_str(), std::strerror(errno));
  return 1;
}

}  // namespace

int train_main(const Words& args) {
  const std::string program = sibling_program("aurora-train");
  TrainOptions checked;
  Words handed;
  int ranks = 0;
  const CommandLine line = train_ranks_command(checked, handed, ranks);
  if (Status s = parse_flags(line, args); !s) return refuse("aurora train", s);
  if (checked.help) return print_help(line);
  return ranks > 0 ? train_on_ranks(program, handed, ranks) : become(program, handed);
}

}  // namespace aurora
