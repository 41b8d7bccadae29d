#include "cli/command_lines.h"

#include "cli/drafts_options.h"
#include "cli/rollout_options.h"
#include "cli/serve_options.h"
#include "cli/status_options.h"
#include "cli/traces_options.h"
#include "lab/bench_options.h"
#include "lab/flywheel_options.h"
#include "replay/replay_options.h"

namespace aurora {
namespace {

constexpr int kRanksMax = 64;  // of one machine

template <typename Options>
void add(std::vector<CommandLine>& all, CommandLine (*table)(Options&)) {
  Options defaults;
  all.push_back(table(defaults));
  for (Flag& flag : all.back().flags) flag.set = nullptr;  // what it would set is gone
  all.back().words = all.back().others = nullptr;
}

CommandLine train_table(TrainOptions& options) {
  std::vector<std::string> handed;
  int ranks = 0;
  return train_ranks_command(options, handed, ranks);
}

}  // namespace

CommandLine train_ranks_command(TrainOptions& options, std::vector<std::string>& handed,
                                int& ranks) {
  CommandLine line = train_command(options);
  line.flags = handed_on(std::move(line.flags), handed);
  line.flags.push_back(number_flag("--nproc",
                                   "trainer ranks on this machine, each of them an aurora-train",
                                   ranks, 1, kRanksMax));
  line.flags.back().otherwise = "one, without a launcher";
  return line;
}

std::vector<CommandLine> all_command_lines() {
  std::vector<CommandLine> all;
  add(all, serve_command);
  add(all, train_table);
  add(all, rollout_command);
  add(all, replay_command);
  add(all, status_command);
  add(all, drafts_list_command);
  add(all, drafts_show_command);
  add(all, drafts_pin_command);
  add(all, drafts_unpin_command);
  add(all, drafts_rollback_command);
  add(all, drafts_rm_command);
  add(all, drafts_export_command);
  add(all, drafts_import_command);
  add(all, traces_stats_command);
  add(all, bench_verify_command);
  add(all, bench_learn_command);
  add(all, flywheel_command);
  return all;
}

}  // namespace aurora
