// Notices that training has gone astray: once the mean loss of the last steps stands clearly above
// both the best it has been and what training began with. New traffic alone does not do that: a
// draft that has learnt something else is no worse on it than one that has learnt nothing.
#pragma once

#include <cstdint>

namespace aurora {

struct LossGuardOptions {
  int steps = 200;      // of the mean
  double margin = 1.2;  // times the first mean, and so many times the best
};

class LossGuard {
 public:
  explicit LossGuard(const LossGuardOptions& options = {}) : options_(options) {}

  // What an earlier life of this training began with.
  void start_from(double first) { first_ = first; }

  // After each step that learnt something. True: astray, go back to weights that were good. It then
  // looks at `steps` further ones before it says so again, and goes on knowing the first mean.
  bool astray(double loss);

 private:
  LossGuardOptions options_;
  uint64_t seen_ = 0;  // in the mean
  double mean_ = 0;
  double first_ = 0, best_ = 0;  // means of whole windows; 0: none yet
};

}  // namespace aurora
