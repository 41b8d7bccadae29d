// `aurora train --nproc N`: N trainer ranks on this machine. Several machines: torchrun or
// Kubernetes set the same environment (docs/many-servers.md).
#pragma once

#include <string>
#include <vector>

namespace aurora {

// Starts `count` ranks of `program` and waits for them. When one is lost the others end too, and
// all start again from the checkpoint, after a pause that grows to a minute. SIGTERM and SIGINT go
// on to the ranks. Returns the exit code: 0 when all are done or were asked to leave; that of a
// rank where starting again cannot help.
int run_ranks(const std::string& program, const std::vector<std::string>& args, int count);

}  // namespace aurora
