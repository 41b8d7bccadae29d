// A bound on a process' own memory: what goes beyond it is an allocation that fails, and not the
// kernel's choice of a process to kill. Files that are mapped to be read, or shared, do not count.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace aurora {

// To so much more than there is now: what libraries have reserved does not count. Never raises a
// limit.
Status limit_memory(uint64_t bytes_more);

}  // namespace aurora
