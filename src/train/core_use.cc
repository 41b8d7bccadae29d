#include "train/core_use.h"

#include <algorithm>
#include <cstdlib>

#include "base/cpu_count.h"
#include "base/log.h"
#include "base/parse_number.h"

namespace aurora {

int threads_of_machine() {
  int ranks = 1;
  const char* text = std::getenv("LOCAL_WORLD_SIZE");
  if (text != nullptr) (void)parse_number(text, 1, 1 << 16, ranks);
  return std::max(1, cores_allowed() / ranks);
}

CoreUse::CoreUse(const std::string& state_dir, int threads_max,
                 std::function<void(int)> set_threads)
    : threads_max_(threads_max), set_threads_(std::move(set_threads)) {
  auto lease = CoreBorrower::open(state_dir);
  if (lease) lease_.emplace(std::move(*lease));
  else LOG_WARN("train", "no cores are lent here: %s", lease.status().to_string().c_str());
}

void CoreUse::next_step(bool work) {
  if (!lease_) return set_threads_(threads_max_);
  lease_->want(work);
  const int lent = lease_->cores();
  set_threads_(lent == kAllCores ? threads_max_ : std::clamp(lent, 1, threads_max_));
}

}  // namespace aurora
