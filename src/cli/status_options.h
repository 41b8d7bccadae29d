// Flags of `aurora status`.
#pragma once

#include <string>
#include <vector>

#include "base/flags.h"

namespace aurora {

struct StatusOptions {
  bool all = false, json = false, help = false;
  int watch_s = 0;  // 0: once
  std::string buffer, key;
  std::vector<std::string> servers;
};

CommandLine status_command(StatusOptions& options);
Result<StatusOptions> parse_status_options(const std::vector<std::string>& args);

}  // namespace aurora
