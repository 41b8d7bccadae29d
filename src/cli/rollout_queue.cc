#include "cli/rollout_queue.h"

#include <algorithm>

namespace aurora {

RolloutPrompt* RolloutQueue::find(uint64_t id) {
  const auto found = std::find_if(prompts_.rbegin(), prompts_.rend(),
                                  [id](const RolloutPrompt& p) { return p.of == id; });
  return found == prompts_.rend() ? nullptr : &*found;
}

void RolloutQueue::add(const TraceRecord& request, int64_t expires_ms) {
  RolloutPrompt prompt;
  prompt.of = request.id;
  prompt.tokens.assign(request.tokens.begin(), request.tokens.begin() + request.prompt_tokens);
  prompt.tenant = request.tenant;
  prompt.domain = request.domain;
  prompt.expires_ms = expires_ms;
  prompts_.push_back(std::move(prompt));
  if (prompts_.size() > prompts_max_) prompts_.pop_front();
}

RolloutPrompt* RolloutQueue::fewest(int64_t now_ms) {
  std::erase_if(prompts_, [now_ms](const RolloutPrompt& p) {
    return p.expires_ms != 0 && p.expires_ms <= now_ms;
  });
  const auto found = std::min_element(
      prompts_.rbegin(), prompts_.rend(),
      [](const RolloutPrompt& a, const RolloutPrompt& b) { return a.made < b.made; });
  return found == prompts_.rend() || found->made >= each_ ? nullptr : &*found;
}

std::optional<RolloutPrompt> RolloutQueue::next(int64_t now_ms) {
  RolloutPrompt* prompt = fewest(now_ms);
  if (!prompt) return {};
  ++prompt->made;
  return *prompt;
}

bool RolloutQueue::done(int64_t now_ms) { return fewest(now_ms) == nullptr; }

void RolloutQueue::count(uint64_t of, int more) {
  if (RolloutPrompt* prompt = find(of)) prompt->made += more;
}

}  // namespace aurora
