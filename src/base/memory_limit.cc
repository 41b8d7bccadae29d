#include "base/memory_limit.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace aurora {
namespace {

// Private and writable, in use or not: what the limit is compared with. 0: not to be read.
uint64_t memory_now() {
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  unsigned long long pages = 0;
  const int read = std::fscanf(file, "%*u %*u %*u %*u %*u %llu", &pages);
  std::fclose(file);
  return read == 1 ? pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

}  // namespace

Status limit_memory(uint64_t bytes_more) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0)
    return Status::io(std::string("cannot read the memory limit: ") + std::strerror(errno));
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_cur, memory_now() + bytes_more);
  if (::setrlimit(RLIMIT_DATA, &limit) != 0)
    return Status::io(std::string("cannot limit memory: ") + std::strerror(errno));
  return Status::ok();
}

}  // namespace aurora
