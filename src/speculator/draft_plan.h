// Which drafted tokens are worth a row of the coming verify step. Maximises
//   sum over slots of (1 + sum_k prod_{j <= k} a_j)  /  (T(rows) + drafting time):
// expected tokens a millisecond, a_j the chance that token j is taken when those before it were.
// Pure functions of their arguments.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "speculator/step_cost.h"

namespace aurora {

struct RowAllocation {
  std::vector<int32_t> depth;  // by slot: tokens of its draft that get a row
  double tokens = 0;           // expected, all slots together
  double ms = 0;               // T(rows) + fixed_ms
  double rate() const { return ms > 0 ? tokens / ms : 0; }
};

// survival[s]: by slot, prod_{j <= k} a_j of each token that could be verified, falling. Every slot
// takes one row anyway; at most drafts_max rows go to drafts. fixed_ms: spent whatever is chosen.
RowAllocation allocate_rows(std::span<const std::vector<double>> survival, int32_t drafts_max,
                            double fixed_ms, const StepCost& cost);

// One slot's ways to a draft, before the chain has drafted anything.
struct SlotChances {
  std::vector<double> repeat;  // survival of what repeated text proposes
  std::vector<double> chain;   // expected survival of the chain's tokens; empty: it cannot draft
};

struct ChainCost {
  double first_ms = 0;  // first token of all slots
  double next_ms = 0;   // each further token
  double fill_ms = 0;   // rows to be built first
};

struct StepPlan {
  std::vector<bool>
      chain;        // by slot: the chain drafts; else repeated text does, where there is some
  double rate = 0;  // expected tokens a millisecond
};

StepPlan plan_step(std::span<const SlotChances> slots, int32_t drafts_max, const ChainCost& chain,
                   const StepCost& cost);

}  // namespace aurora
