#include "lab/process_info.h"

#include <dirent.h>
#include <unistd.h>

#include <climits>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

#include "base/parse_number.h"

namespace aurora {
namespace {

constexpr size_t kNameBytesMax = 15;  // the kernel's

struct Stat {
  std::string name;
  std::vector<std::string> fields;  // behind the name: state, parent, ...
};
constexpr size_t kParent = 1, kUserTicks = 11, kSystemTicks = 12;

std::optional<Stat> stat_of(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  const size_t open = line.find('('), close = line.rfind(')');  // a name may hold both
  if (open == std::string::npos || close == std::string::npos) return std::nullopt;
  Stat stat{line.substr(open + 1, close - open - 1), {}};
  std::istringstream rest(line.substr(close + 1));
  for (std::string field; rest >> field;) stat.fields.push_back(std::move(field));
  if (stat.fields.size() <= kSystemTicks) return std::nullopt;
  return stat;
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

}  // namespace

std::optional<pid_t> child_called(pid_t parent, const std::string& name) {
  const std::unique_ptr<DIR, CloseDir> all(::opendir("/proc"));
  if (!all) return std::nullopt;
  while (const dirent* entry = ::readdir(all.get())) {
    pid_t pid = 0;
    if (!parse_number<pid_t>(entry->d_name, 1, INT_MAX, pid)) continue;
    const auto stat = stat_of(entry->d_name);
    if (stat && stat->name == name.substr(0, kNameBytesMax) &&
        stat->fields[kParent] == std::to_string(parent))
      return pid;
  }
  return std::nullopt;
}

double cpu_seconds(pid_t pid) {
  const auto stat = stat_of(std::to_string(pid));
  if (!stat) return 0;
  int64_t user = 0, system = 0;
  parse_number<int64_t>(stat->fields[kUserTicks], 0, INT64_MAX, user);
  parse_number<int64_t>(stat->fields[kSystemTicks], 0, INT64_MAX, system);
  return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string name = "unknown", sets;
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) name = line.substr(colon + 2);
    if (!line.starts_with("flags")) continue;
    const std::string flags = line.substr(colon + 1) + " ";
    for (const char* set : {"avx2", "avx_vnni", "avx512_vnni", "amx_int8"})
      if (flags.find(std::string(" ") + set + " ") != std::string::npos)
        sets += (sets.empty() ? "" : ", ") + std::string(set);
  }
  return name + " (" + sets + ")";
}

}  // namespace aurora
