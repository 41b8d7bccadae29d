#include "speculator/ngram_index.h"

#include <algorithm>
#include <bit>

namespace aurora {

NgramIndex::NgramIndex(size_t tokens_max)
    : capacity_(std::bit_ceil(std::max<size_t>(tokens_max, 64))), ring_(capacity_) {
  for (auto& table : tables_) table.resize(2 * capacity_);
}

size_t NgramIndex::place(std::span<const int32_t> last) const {
  uint64_t hash = salt_ ^ 0x9E3779B97F4A7C15ull;
  for (const int32_t token : last) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0xBF58476D1CE4E5B9ull;
    hash ^= hash >> 29;
  }
  return static_cast<size_t>(hash >> 7) & (2 * capacity_ - 1);
}

void NgramIndex::append(int32_t token) {
  // What stood before this token is known now: its place goes under the tokens behind it.
  if (token != kBreak) {
    std::array<int32_t, kOrders.front()> last{};
    const size_t have = std::min<size_t>(static_cast<size_t>(run_), last.size());
    for (size_t i = 0; i < have; ++i) last[i] = at(end_ - have + i);
    for (size_t i = 0; i < kOrders.size(); ++i) {
      if (have < kOrders[i]) continue;
      const std::span<const int32_t> key(last.data() + (have - kOrders[i]), kOrders[i]);
      tables_[i][place(key)] = static_cast<uint32_t>(end_ + 1);
    }
    run_ = std::min(run_ + 1, static_cast<int>(kOrders.front()));
  } else {
    run_ = 0;
  }
  ring_[end_ & (capacity_ - 1)] = token;
  ++end_;
}

NgramIndex::Match NgramIndex::find(std::span<const int32_t> tail) const {
  Match best;
  for (size_t i = 0; i < kOrders.size() && best.length == 0; ++i) {
    if (tail.size() < kOrders[i]) continue;
    const uint32_t low = tables_[i][place(tail.last(kOrders[i]))];
    if (low == 0) continue;
    const uint64_t back = static_cast<uint32_t>(static_cast<uint32_t>(end_ + 1) - low);
    if (back > end_ - begin() || back == 0) continue;
    const uint64_t next = end_ - back;
    const auto most =
        static_cast<int>(std::min<uint64_t>({kMatchMax, tail.size(), next - begin()}));
    int length = 0;
    while (length < most && at(next - 1 - static_cast<uint64_t>(length)) ==
                                tail[tail.size() - 1 - static_cast<size_t>(length)])
      ++length;
    if (length >= static_cast<int>(kOrders[i])) best = {next, length};
  }
  return best;
}

void NgramIndex::copy(uint64_t position, size_t count, std::vector<int32_t>& out) const {
  for (; count > 0 && position < end_ && at(position) != kBreak; --count, ++position)
    out.push_back(at(position));
}

}  // namespace aurora
