// Traffic files: one JSON object a line, {"id", "domain", "messages": [{"role", "content"}, ...]}.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

struct Prompt {
  std::string id;
  std::string domain;    // "" where the line names none
  std::string messages;  // JSON array, as the chat API takes it
};

struct TrafficOptions {
  bool mixed = false;  // false: file after file in the order given; true: all lines shuffled
  size_t skip = 0;     // lines left out at the start of each file
  size_t count = 0;    // lines taken of each file after those; 0: all
  uint64_t seed = 20;  // of the shuffle; same seed, same order on every machine
};

// Blank lines are skipped; any other line that is no prompt fails the whole call with its place.
Result<std::vector<Prompt>> read_traffic(const std::vector<std::string>& paths,
                                         const TrafficOptions& options);

}  // namespace aurora
