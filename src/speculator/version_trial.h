// Two draft versions in the same hours: requests fall to one or the other at random, and a
// sequential test on expected-cost rates (tokens a millisecond of modelled time, so that a noisy
// machine tells nothing) says when the new one is worse, or may stay. One thread, O(1), no
// allocation but in explain().
//
// The test: z of the difference of two ratio estimates (sum tokens / sum ms, residual variance over
// blocks of steps), looked at block by block. z_worse is set for some hundred looks at a level of
// about one in a thousand. Where drafts hardly pay both rates are that of no draft, whatever the
// versions are worth: so nothing is said before each has drafted, and a version that makes no more
// tokens a millisecond and whose first drafted tokens are taken less often (z of two shares) goes,
// too.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace aurora {

struct TrialOptions {
  int64_t steps_min = 64;   // of each version before anything is said
  int64_t steps_max = 400;  // of the new one: then it stays, unless it looks worse
  double z_worse = -3.5;
  double z_better = 2.5;
  double z_doubt = -1.5;  // below it at steps_max: goes
  double z_first_doubt = -2.5;
  int64_t first_min = 24;  // first drafted tokens of each before a version may stay
  int64_t horizon = 2000;  // steps that are remembered of each
};

// Some steps of one request: its tokens, modelled time, and how many first tokens of a chain were
// held against the target and taken.
struct TrialBlock {
  double tokens = 0;
  double ms = 0;
  int64_t steps = 0;
  int64_t first_tried = 0;
  int64_t first_taken = 0;
};

enum class TrialAdvice { kGoOn, kPromote, kPutAway };

class VersionTrial {
 public:
  enum Side { kGood = 0, kNew = 1 };

  explicit VersionTrial(TrialOptions options = {}) : options_(options) {}

  // A new version is tried: what the good one has made before says little of the traffic now.
  void begin();
  void observe(Side side, const TrialBlock& block);
  TrialAdvice advice() const;
  // The new version had its time and was not drafted with: a newer one may take its place.
  bool overdue() const;
  bool drafted() const;  // with both, often enough
  double first_tried(Side side) const { return sides_[side].first_tried; }

  double rate(Side side) const;        // tokens a millisecond
  double accept_len(Side side) const;  // tokens a step
  int64_t steps(Side side) const { return static_cast<int64_t>(sides_[side].seen); }
  std::string explain() const;  // one sentence

 private:
  struct Sums {
    double tokens = 0, ms = 0, steps = 0, blocks = 0;
    double tokens2 = 0, ms2 = 0, cross = 0;   // over blocks
    double seen = 0;                          // steps, not faded
    double first_tried = 0, first_taken = 0;  // not faded: where nothing pays they are few
  };
  double variance(const Sums& sums) const;  // of the ratio
  double z() const;
  double first_z() const;

  TrialOptions options_;
  std::array<Sums, 2> sides_{};
};

}  // namespace aurora
