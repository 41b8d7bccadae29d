// Tokens and target steps by draft version: their quotient is what each version is worth. Series of
// Metrics are for ever and a trainer makes versions without end, so these are kept apart, in a
// bound: where a ninth version comes, the one that was used least lately goes from the output. One
// that comes back begins at 0, as a counter of a process that has started again does.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace aurora {

class VersionFigures {
 public:
  static constexpr size_t kVersionsMax = 8;  // beside 0: no version, which stays

  VersionFigures();

  // Decode thread. No lock, no allocation: some stores.
  void step(int64_t version) { ++entry(version).steps; }
  void token(int64_t version) { ++entry(version).tokens; }

  // Any thread, in the text exposition format; waits for nobody.
  std::string text() const;

 private:
  struct Entry {
    std::atomic<int64_t> version{kNobody};
    std::atomic<uint64_t> tokens{0}, steps{0};
    uint64_t used = 0;  // decode thread's
  };
  static constexpr int64_t kNobody = -1;

  Entry& entry(int64_t version);

  std::array<Entry, 1 + kVersionsMax> entries_;  // the first is 0's
  uint64_t uses_ = 0;                            // decode thread's
};

}  // namespace aurora
