// The tables of all commands, for `aurora train --help`, the man page and the completion.
#pragma once

#include <string>
#include <vector>

#include "base/flags.h"
#include "train/train_options.h"

namespace aurora {

// aurora-train's flags, kept in `handed` as they were given, and --nproc.
CommandLine train_ranks_command(TrainOptions& options, std::vector<std::string>& handed,
                                int& ranks);

// With their defaults, in the order of the man page. To be read, not to be parsed with.
std::vector<CommandLine> all_command_lines();

}  // namespace aurora
