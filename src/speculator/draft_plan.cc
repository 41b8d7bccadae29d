#include "speculator/draft_plan.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <queue>
#include <utility>

namespace aurora {
namespace {

constexpr std::array<size_t, 7> kChainDepths = {1, 2, 3, 4, 6, 10, 16};

double sum(const std::vector<double>& values, size_t count) {
  const auto n = static_cast<std::ptrdiff_t>(std::min(count, values.size()));
  return std::accumulate(values.begin(), values.begin() + n, 0.0);
}

}  // namespace

RowAllocation allocate_rows(std::span<const std::vector<double>> survival, int32_t drafts_max,
                            double fixed_ms, const StepCost& cost) {
  const auto slots = static_cast<int32_t>(survival.size());
  std::priority_queue<std::pair<double, size_t>> open;  // survival of a slot's next token
  for (size_t s = 0; s < survival.size(); ++s)
    if (!survival[s].empty()) open.emplace(survival[s][0], s);
  RowAllocation best;
  best.depth.assign(survival.size(), 0);
  best.tokens = slots;
  best.ms = cost.ms(slots) + fixed_ms;
  std::vector<int32_t> depth = best.depth;
  double tokens = best.tokens;
  // Survivals fall, but T is no convex curve: the best of all prefixes, not the first that falls.
  for (int32_t rows = 1; rows <= drafts_max && !open.empty(); ++rows) {
    const auto [chance, s] = open.top();
    open.pop();
    tokens += chance;
    const auto next = static_cast<size_t>(++depth[s]);
    if (next < survival[s].size()) open.emplace(survival[s][next], s);
    const double ms = cost.ms(slots + rows) + fixed_ms;
    if (tokens / ms <= best.rate()) continue;
    best.depth = depth;
    best.tokens = tokens;
    best.ms = ms;
  }
  return best;
}

StepPlan plan_step(std::span<const SlotChances> slots, int32_t drafts_max, const ChainCost& chain,
                   const StepCost& cost) {
  std::vector<std::vector<double>> survival(slots.size());
  for (size_t s = 0; s < slots.size(); ++s) survival[s] = slots[s].repeat;
  StepPlan best;
  best.chain.assign(slots.size(), false);
  best.rate = allocate_rows(survival, drafts_max, 0, cost).rate();
  const auto able = static_cast<double>(
      std::count_if(slots.begin(), slots.end(), [](const auto& s) { return !s.chain.empty(); }));
  if (able == 0) return best;
  int falling = 0;
  for (const size_t depth : kChainDepths) {
    const double ms =
        chain.fill_ms + chain.first_ms + chain.next_ms * static_cast<double>(depth - 1);
    std::vector<bool> chained(slots.size(), false);
    for (size_t s = 0; s < slots.size(); ++s) {
      // Both at once in one slot, the better one: the chain pays its share of the drafting time.
      const double by_chain = sum(slots[s].chain, depth) - best.rate * ms / able;
      chained[s] =
          !slots[s].chain.empty() && by_chain > sum(slots[s].repeat, slots[s].repeat.size());
      survival[s] = slots[s].repeat;
      if (!chained[s]) continue;
      survival[s] = slots[s].chain;
      survival[s].resize(std::min(survival[s].size(), depth));
    }
    if (std::find(chained.begin(), chained.end(), true) == chained.end()) break;
    const double rate = allocate_rows(survival, drafts_max, ms, cost).rate();
    falling = rate > best.rate ? 0 : falling + 1;
    if (falling == 0) {
      best.rate = rate;
      best.chain = std::move(chained);
    }
    if (falling == 2) break;
  }
  return best;
}

}  // namespace aurora
