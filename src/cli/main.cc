#include <cstdio>
#include <cstring>

#include "cli/commands.h"
#include "cli/replay.h"
#include "cli/rollouts.h"

namespace {

struct Command {
  const char* name;
  int (*run)(int, char**);
  const char* what;
};

constexpr Command kCommands[] = {
    {"serve", aurora::serve_main,
     "llama-server whose draft trains itself on the traffic it serves"},
    {"train", aurora::train_main, "the trainer alone, beside a server or on recorded traces"},
    {"replay", aurora::replay_main,
     "drives a server with recorded prompts and draws accept length over tokens"},
    {"rollouts", aurora::rollouts_main,
     "answers recorded prompts again while a server is idle, for its draft to learn from"},
    {"status", aurora::status_main, "servers and trainers: versions, accept length, lag, drops"},
    {"drafts", aurora::drafts_main,
     "to and from the heads that SGLang and vLLM serve: export, import"},
    {"bench", aurora::bench_main,
     "verify: cost of a verify batch; learn: training recipes; flywheel: served speed, all arms"},
};

void usage(FILE* out) {
  std::fprintf(out, "usage: aurora COMMAND [flags]; aurora COMMAND --help\n\n");
  for (const Command& command : kCommands)
    std::fprintf(out, "  %-9s%s\n", command.name, command.what);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    usage(stderr);
    return 2;
  }
  if (std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "-h") == 0 ||
      std::strcmp(argv[1], "help") == 0) {
    usage(stdout);
    return 0;
  }
  for (const Command& command : kCommands) {
    if (std::strcmp(argv[1], command.name) == 0) return command.run(argc - 1, argv + 1);
  }
  std::fprintf(stderr, "aurora: there is no command '%s'; `aurora --help` lists them\n", argv[1]);
  return 2;
}
