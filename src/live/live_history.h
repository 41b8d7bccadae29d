// What the live page draws: how a server's figures grew with the tokens that it served, and what
// happened to its drafts. Bounded: at kPointsMax points every second one goes, and those to come
// lie twice as far apart, so that the server's whole life stays in sight; the oldest events go.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace aurora {

// A point's numbers, sums since the start but for the three last: the page takes differences.
// paced: of the steps that served text and nothing else, with their drafting; plain: what the same
// tokens take without drafts, by the measured time of a step of the same slots (StepCost).
enum class LiveField : uint8_t {
  kAtMs,  // unix time
  kTokens,
  kSteps,
  kPacedTokens,
  kPacedMs,
  kPlainMs,
  kRequestTextTaken,
  kTrafficTextTaken,
  kChainTaken,
  kBehindTaken,
  kVersion,
  kTrainerRowsPerSecond,
  kTrainerSteps,
  kCount
};
using LivePoint = std::array<double, static_cast<size_t>(LiveField::kCount)>;

struct LiveEvent {
  int64_t at_ms = 0;
  uint64_t tokens = 0;  // served before it
  const char* kind = "";
  int64_t version = 0;
  std::string text;
};

// json() and happened() from any thread, the others from the decode thread: it waits for a copy of
// the points at most.
class LiveHistory {
 public:
  static constexpr size_t kPointsMax = 512;
  static constexpr size_t kEventsMax = 128;
  static constexpr size_t kTextBytesMax = 400;

  // Whether it is time for a point, within an answer and at its end.
  bool due(uint64_t tokens) const { return tokens >= next_tokens_; }
  bool due_at_end(uint64_t tokens) const { return tokens + 3 * stride_ / 4 >= next_tokens_; }
  void add(const LivePoint& point);
  void happened(LiveEvent event);

  // Members of a JSON object: "fields", "points", "events", "seen", "whole". seen: what the last
  // answer said, so that only what is new is told ("whole": false); "" or another: everything.
  std::string json(const std::string& seen) const;

 private:
  uint64_t next_tokens_ = 0;  // decode thread's
  uint64_t stride_ = 32;
  mutable std::mutex mutex_;
  std::vector<LivePoint> points_;
  std::vector<LiveEvent> events_;
  uint64_t thinned_ = 0;  // times
  uint64_t events_dropped_ = 0;
};

}  // namespace aurora
