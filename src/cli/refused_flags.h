// The one list of llama-server's flags and variables that `aurora serve` does not take.
#pragma once

#include <string>

#include "base/status.h"

namespace aurora {

// invalid: one sentence that says what to do instead. `arg` may be a flag, --flag=value or a value.
Status check_server_flag(const std::string& arg);

// The same for what is set in the environment and not to "off" or 0.
Status check_server_variables();

// A line for each entry, for --help.
std::string refused_flags_help();

}  // namespace aurora
