// Where `aurora serve` keeps what it learns.
#pragma once

#include <string>

#include "cli/serve_options.h"

namespace aurora {

// Where --state is not given: under $STATE_DIRECTORY (systemd's), $XDG_STATE_HOME or $HOME, one
// folder a target. "": none of them is set.
std::string default_state(const std::string& target);

// Makes options.state. A server that neither captures nor trains goes on without one: its state is
// "" then.
Status make_state(ServeOptions& options);

}  // namespace aurora
