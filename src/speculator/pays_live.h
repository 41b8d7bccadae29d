// Whether drafting pays on the traffic of the moment: a draft that paid when it was published may
// not after a shift, until the next one has learnt it. Owned by the thread that decodes; O(1).
#pragma once

#include <cstdint>

namespace aurora {

class PaysLive {
 public:
  // pays_above: accept length from which on a step with a draft beats one without
  // (verify_cost.h).
  void set_threshold(double pays_above) { pays_above_ = pays_above; }

  // A version entered service: what is known of the last one counts little.
  void adopt() {
    tokens_ *= kCarried;
    steps_ *= kCarried;
    unasked_ = kProbeEvery;
  }

  // Tokens and target steps of a request that was drafted for. Older ones fade.
  void observe(int64_t tokens, int64_t steps) {
    const double keep = kHorizonSteps / (kHorizonSteps + static_cast<double>(steps));
    tokens_ = keep * tokens_ + static_cast<double>(tokens);
    steps_ = keep * steps_ + static_cast<double>(steps);
  }

  bool pays() const { return steps_ < kStepsMin || tokens_ >= pays_above_ * steps_; }

  // At the start of a request: shall it be drafted for? Where it does not pay one in four is, to
  // find out when it does again.
  bool ask() {
    if (!pays() && ++unasked_ < kProbeEvery) return false;
    unasked_ = 0;
    return true;
  }

 private:
  static constexpr double kHorizonSteps = 200;
  static constexpr double kStepsMin = 100;
  static constexpr double kCarried = 0.25;
  static constexpr int kProbeEvery = 4;

  double pays_above_ = 0;
  double tokens_ = 0, steps_ = 0;
  int unasked_ = 0;  // requests since the last that was drafted for
};

}  // namespace aurora
