#include "cli/commands.h"
#include "cli/dispatch.h"
#include "replay/replay.h"

int main(int argc, char** argv) {
  static constexpr aurora::Command kCommands[] = {
      {"serve", aurora::serve_main,
       "llama-server whose draft trains itself on the traffic it serves"},
      {"train", aurora::train_main, "the trainer alone, beside a server or on recorded traces"},
      {"rollouts", aurora::rollouts_main,
       "answers recorded prompts again while a server is idle, for its draft to learn from"},
      {"replay", aurora::replay_main,
       "drives a server with recorded prompts and draws accept length over tokens"},
      {"status", aurora::status_main, "servers and trainers: versions, accept length, lag, drops"},
      {"drafts", aurora::drafts_main,
       "the versions of a draft: list, show, pin, rollback, rm; export and import heads"},
      {"traces", aurora::traces_main, "what is recorded: records, bytes, age, drops by cause"},
      {"bench", aurora::bench_main,
       "verify: cost of a verify batch; learn: training recipes; flywheel: served speed"},
  };
  return aurora::dispatch("aurora", kCommands, {argv + 1, argv + argc});
}
