#include "speculator/traffic_texts.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace aurora {

TrafficTexts::TrafficTexts(size_t bytes_max)
    : tokens_max_(std::bit_floor(bytes_max / NgramIndex::kBytesEachToken)), index_(tokens_max_) {}

void TrafficTexts::add(std::span<const int32_t> prompt, std::span<const int32_t> answer,
                       const std::string& tenant, int64_t expires_ms) {
  const size_t room = tokens_max_ / 4;
  if (room == 0) return;
  answer = answer.last(std::min(answer.size(), room));
  prompt = prompt.last(std::min(prompt.size(), room - answer.size()));
  texts_.push_back({index_.end(), tenant, expires_ms});
  index_.set_salt(std::hash<std::string>()(tenant));
  index_.append(NgramIndex::kBreak);
  for (const int32_t token : prompt) index_.append(token);
  for (const int32_t token : answer) index_.append(token);
  while (texts_.size() > 1 && texts_[1].begin <= index_.begin()) texts_.pop_front();
}

int TrafficTexts::find(std::span<const int32_t> tail, const std::string& tenant, int64_t now_ms,
                       size_t count, std::vector<int32_t>& out) {
  if (texts_.empty()) return 0;
  index_.set_salt(std::hash<std::string>()(tenant));
  const NgramIndex::Match match = index_.find(tail);
  if (match.length == 0) return 0;
  const auto behind =
      std::upper_bound(texts_.begin(), texts_.end(), match.next,
                       [](uint64_t position, const Text& text) { return position < text.begin; });
  if (behind == texts_.begin()) return 0;
  const Text& text = *(behind - 1);
  if (text.tenant != tenant || (text.expires_ms != 0 && text.expires_ms <= now_ms)) return 0;
  index_.copy(match.next, count, out);
  return out.empty() ? 0 : match.length;
}

}  // namespace aurora
