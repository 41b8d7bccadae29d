// How many cores this process may use: by its affinity and by the quota of its control group, which
// a container has. The number of cores in the machine says neither.
#pragma once

#include <string>

namespace aurora {

// At least 1. Reads a few files of /proc and /sys: ask once.
int cores_allowed();

// ceil(quota / period) of the group that `membership` (the text of /proc/self/cgroup) names below
// `root`, and of all groups above it: the smallest. Versions 1 and 2. 0: no quota.
int cores_of_quota(const std::string& membership, const std::string& root);

}  // namespace aurora
