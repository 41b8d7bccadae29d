// Texts of past requests to draft from when they come again. Bounded in bytes: the oldest leave.
// Each tenant sees its own alone, since the speed of an answer would tell what others wrote; a text
// is used no longer than its trace may live. In memory only. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "speculator/ngram_index.h"

namespace aurora {

class TrafficTexts {
 public:
  // 0: keeps nothing.
  explicit TrafficTexts(size_t bytes_max);

  // expires_ms: unix time, 0: never. A text longer than a quarter of the room is kept from its end.
  void add(std::span<const int32_t> prompt, std::span<const int32_t> answer,
           const std::string& tenant, int64_t expires_ms);
  // Into out: what followed the end of `tail` in a text of this tenant, at most `count` tokens.
  // The length of the match, 0: none.
  int find(std::span<const int32_t> tail, const std::string& tenant, int64_t now_ms, size_t count,
           std::vector<int32_t>& out);
  size_t texts() const { return texts_.size(); }

 private:
  struct Text {
    uint64_t begin = 0;
    std::string tenant;
    int64_t expires_ms = 0;
  };

  size_t tokens_max_;
  NgramIndex index_;
  std::deque<Text> texts_;  // by rising begin
};

}  // namespace aurora
