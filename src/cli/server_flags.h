// The one list of llama-server's flags and variables, and what `aurora serve` does with each:
// docs/flags.md is made from it, and tests hold it against the pinned server's --help.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace aurora {

enum class FlagUse { kWorks, kRefused, kIdle, kPrints };  // kPrints: prints something and exits

struct ServerFlags {
  FlagUse use;
  std::string_view flags;      // words; with a * at the end: all that begin so
  std::string_view variables;  // the same
  std::string_view why;  // kWorks: what they are about; else the sentence for whoever gave one
};

const std::vector<ServerFlags>& server_flags();

// The entry of a flag or variable. nullptr: llama-server has none of this name.
const ServerFlags* find_server_flag(std::string_view flag);
const ServerFlags* find_server_variable(std::string_view variable);

// invalid: one sentence that says what to do instead. `arg` may be a flag, --flag=value or a value.
Status check_server_flag(const std::string& arg);

// The same for what is set in the environment and not to "off" or 0.
Status check_server_variables();

// A sentence for each flag among `args`, and each variable, that changes nothing here.
std::vector<std::string> idle_server_flags(const std::vector<std::string>& args);

// One of them has llama-server print something and exit.
bool prints_and_exits(const std::vector<std::string>& args);

// The refused ones, a line for each entry, for --help.
std::string refused_flags_help();

// docs/flags.md.
std::string server_flags_page();

}  // namespace aurora
