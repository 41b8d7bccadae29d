// Flags of `aurora traces stats`.
#pragma once

#include <string>

#include "base/flags.h"

namespace aurora {

struct TracesOptions {
  std::string model, state, buffer, url, key;
  bool json = false, help = false;
};

CommandLine traces_stats_command(TracesOptions& options);
Result<TracesOptions> parse_traces_options(const std::vector<std::string>& args);

}  // namespace aurora
