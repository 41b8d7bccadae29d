#include "train/loss_guard.h"

#include <algorithm>

namespace aurora {

bool LossGuard::astray(double loss) {
  const auto window = static_cast<uint64_t>(std::max(1, options_.steps));
  ++seen_;
  // The plain mean while a window fills, then a running one of the same length.
  mean_ += (loss - mean_) / static_cast<double>(std::min(seen_, window));
  if (seen_ < window) return false;
  if (first_ == 0) first_ = mean_;
  best_ = best_ == 0 ? mean_ : std::min(best_, mean_);
  if (mean_ <= options_.margin * first_ || mean_ <= options_.margin * best_) return false;
  seen_ = 0;
  mean_ = 0;
  return true;
}

}  // namespace aurora
