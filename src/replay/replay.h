// `aurora replay`: sends the prompts of traffic files to a server and reports on it. Knows of the
// server its HTTP and the names of its metrics.
#pragma once

#include <string>
#include <vector>

namespace aurora {

// The words behind the name; the exit code.
int replay_main(const std::vector<std::string>& args);

}  // namespace aurora
