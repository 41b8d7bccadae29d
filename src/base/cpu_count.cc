#include "base/cpu_count.h"

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <thread>

#include "base/files.h"
#include "base/parse_number.h"

namespace aurora {
namespace {

constexpr size_t kFileBytesMax = 64u << 10;

int cores_of_affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());  // more cores than the set holds
}

int ceil_of(const std::string& quota, const std::string& period) {
  int64_t used = 0, whole = 0;
  if (!parse_number<int64_t>(quota, 1, INT64_MAX / 2, used) ||
      !parse_number<int64_t>(period, 1, INT64_MAX / 2, whole))
    return 0;
  return static_cast<int>(std::min<int64_t>((used + whole - 1) / whole, INT32_MAX));
}

std::string words_of(const std::string& path) {
  const auto text = read_file(path, kFileBytesMax);
  return text ? *text : std::string();
}

// "max 100000" or "150000 100000"; in version 1 a file for each of the two.
int quota_of_group(const std::string& group) {
  std::istringstream both(words_of(group + "/cpu.max") + " " +
                          words_of(group + "/cpu.cfs_quota_us") + " " +
                          words_of(group + "/cpu.cfs_period_us"));
  std::string quota, period;
  both >> quota >> period;
  return ceil_of(quota, period);
}

int smaller(int a, int b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

// A container may see its own group as the root while its membership names the path outside: what
// is not there is passed over.
int smallest_quota(const std::string& root, std::string path) {
  int cores = 0;
  for (size_t slash = path.rfind('/'); slash != std::string::npos; slash = path.rfind('/')) {
    cores = smaller(cores, quota_of_group(root + path));
    path.resize(slash);
  }
  return smaller(cores, quota_of_group(root));
}

bool holds_word(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

}  // namespace

int cores_of_quota(const std::string& membership, const std::string& root) {
  std::istringstream lines(membership);
  int cores = 0;
  for (std::string line; std::getline(lines, line);) {  // "hierarchy:controllers:path"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) cores = smaller(cores, smallest_quota(root, path));
    if (holds_word(controllers, "cpu")) cores = smaller(cores, smallest_quota(root + "/cpu", path));
  }
  return cores;
}

int cores_allowed() {
  const int quota = cores_of_quota(words_of("/proc/self/cgroup"), "/sys/fs/cgroup");
  return std::max(1, smaller(cores_of_affinity(), quota));
}

}  // namespace aurora
