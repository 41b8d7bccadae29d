// `aurora train`: the trainer is a program of its own, so that the server's never links LibTorch.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/parse_number.h"
#include "cli/commands.h"
#include "cli/rank_launcher.h"
#include "cli/self_path.h"

namespace aurora {
namespace {

constexpr int kRanksMax = 64;  // of one machine

int train_on_ranks(const std::string& program, std::vector<std::string> args, size_t flag) {
  int count = 0;
  if (flag + 1 == args.size() || !parse_number(args[flag + 1], 1, kRanksMax, count)) {
    std::fprintf(stderr, "aurora train: --nproc takes the number of trainer ranks, 1 to %d\n",
                 kRanksMax);
    return 2;
  }
  if (std::getenv("WORLD_SIZE")) {
    std::fprintf(stderr,
                 "aurora train: WORLD_SIZE is set, so another launcher starts the ranks: leave "
                 "--nproc out\n");
    return 2;
  }
  const auto at = args.begin() + static_cast<ptrdiff_t>(flag);
  args.erase(at, at + 2);
  return run_ranks(program, args, count);
}

}  // namespace

int train_main(int argc, char** argv) {
  const std::string program = sibling_program("aurora-train");
  const std::vector<std::string> words(argv + 1, argv + argc);
  const auto find = [&words](const char* word) {
    return static_cast<size_t>(std::find(words.begin(), words.end(), word) - words.begin());
  };
  const bool help = find("--help") < words.size() || find("-h") < words.size();
  if (help) {
    std::puts("aurora train [--nproc N]: N trainer ranks on this machine, each of them is\n");
    argc = 2;
    argv[1] = const_cast<char*>("--help");
  } else if (const size_t flag = find("--nproc"); flag < words.size()) {
    return train_on_ranks(program, words, flag);
  }
  std::fflush(stdout);
  std::vector<char*> args(argv, argv + argc);
  args[0] = const_cast<char*>(program.c_str());
  args.push_back(nullptr);
  execv(program.c_str(), args.data());
  std::fprintf(stderr, "aurora train: cannot run %s (%s); build it with LibTorch installed\n",
               program.c_str(), std::strerror(errno));
  return 1;
}

}  // namespace aurora
