#include "kernels/expert_routes.h"

#include <algorithm>

namespace aurora::kernels {

size_t ExpertRoutes::bytes(int64_t experts, int64_t rows) {
  const size_t numbers = static_cast<size_t>(experts + 1 + experts + rows) * sizeof(int32_t);
  const size_t all = static_cast<size_t>(rows) * sizeof(int64_t) + numbers;
  return (all + 15) / 16 * 16;
}

ExpertRoutes::ExpertRoutes(void* memory, int64_t experts, int64_t rows)
    : experts_(experts),
      row_count_(rows),
      offset_(static_cast<int64_t*>(memory)),
      begin_(reinterpret_cast<int32_t*>(offset_ + rows)),
      busy_(begin_ + experts + 1),
      row_(busy_ + experts) {
  std::fill_n(begin_, experts + 1, 0);
}

// From how many rows each expert has to where they begin.
void ExpertRoutes::find_busy() {
  for (int64_t e = 0; e < experts_; ++e) {
    if (begin_[e + 1] > 0) busy_[busy_count_++] = static_cast<int32_t>(e);
    begin_[e + 1] += begin_[e];
  }
}

// Placing the rows has moved each beginning to its end.
void ExpertRoutes::step_back() {
  for (int64_t e = experts_; e > 0; --e) begin_[e] = begin_[e - 1];
  begin_[0] = 0;
}

}  // namespace aurora::kernels
