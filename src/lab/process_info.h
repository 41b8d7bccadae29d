// What the system says of other processes.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace aurora {

// A child of `parent` whose program is called `name` (15 bytes of it count). Reads all of /proc.
std::optional<pid_t> child_called(pid_t parent, const std::string& name);

// Time that it has had on all cores together; 0 where there is no such process.
double cpu_seconds(pid_t pid);

// Its name, and which of the instruction sets it has that change a figure of ours.
std::string cpu_name();

}  // namespace aurora
