// Which prompt is answered again next: of the newest ones, the one with the fewest rollouts. No
// clock, no network, one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "trace/record.h"

namespace aurora {

struct RolloutPrompt {
  uint64_t of = 0;              // id of the request
  std::vector<int32_t> tokens;  // of the prompt
  std::string tenant, domain;
  int64_t expires_ms = 0;  // unix; 0: never
  int made = 0;            // rollouts, those in flight too
};

class RolloutQueue {
 public:
  // each: rollouts of a prompt. prompts_max: older prompts are forgotten.
  RolloutQueue(int each, size_t prompts_max) : each_(each), prompts_max_(prompts_max) {}

  // expires_ms: unix; 0: never.
  void add(const TraceRecord& request, int64_t expires_ms);

  // Counted as made. Nothing: every prompt has its rollouts or has expired by then.
  std::optional<RolloutPrompt> next(int64_t now_ms);
  bool done(int64_t now_ms);  // next() would have nothing

  // One more was made elsewhere (by an earlier process), or one fewer (it did not begin).
  void count(uint64_t of, int more);

 private:
  RolloutPrompt* find(uint64_t id);
  RolloutPrompt* fewest(int64_t now_ms);

  int each_;
  size_t prompts_max_;
  std::deque<RolloutPrompt> prompts_;  // newest at the back
};

}  // namespace aurora
