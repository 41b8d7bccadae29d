// What was read of a mapped file stays this process's, gigabytes by and by, unless it is let go; it
// stays in the page cache. One thread.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace aurora {

// Lets go of the pages between the first and the last one that were added. All of them must be of
// one map of a file that this process does not write to: other pages would lose what they hold.
class PagesRead {
 public:
  PagesRead() = default;
  ~PagesRead() {
    if (first_ < end_) ::madvise(reinterpret_cast<void*>(first_), end_ - first_, MADV_DONTNEED);
  }
  PagesRead(const PagesRead&) = delete;
  PagesRead& operator=(const PagesRead&) = delete;

  void add(const void* address) {
    const auto page = reinterpret_cast<uintptr_t>(address) / page_bytes_ * page_bytes_;
    first_ = std::min(first_, page);
    end_ = std::max(end_, page + page_bytes_);
  }

 private:
  const size_t page_bytes_ = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  uintptr_t first_ = UINTPTR_MAX, end_ = 0;
};

}  // namespace aurora
