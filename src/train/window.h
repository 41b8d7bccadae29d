// What the trainer trains on: recent traffic, a reservoir of older traffic against forgetting, and
// a held-out set that only the gate sees. Keeps the books: how often each record was trained. One
// thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "trace/trace_buffer.h"
#include "train/learner.h"
#include "train/segments.h"

namespace aurora {

struct WindowOptions {
  size_t recent_max = 512;
  size_t reservoir_max = 256;
  size_t holdout_max = 24;
  size_t holdout_every = 10;  // one request in n is held out, no rollout; 0: none
  // Of all records together; recent ones leave first. One request, and all that are held out, take
  // at most a quarter.
  uint64_t bytes_max = 512ull << 20;
  SegmentOptions segments = {};   // an entry is one of them
  double passes_mean = 8;         // of all records kept but those held out: then no work is left
  int passes_max = 64;            // a record is trained at most so often while recent ...
  int reservoir_passes_max = 64;  // ... and at most so often altogether
  float reservoir_share = 0.2f;   // of the records of a step
};

// splitmix64: its whole state is one number, so a checkpoint can hold it.
class SmallRng {
 public:
  explicit SmallRng(uint64_t state) : state_(state) {}
  uint64_t next();
  size_t below(size_t bound) { return static_cast<size_t>(next() % bound); }
  bool chance(double p) { return static_cast<double>(next() >> 11) * 0x1p-53 < p; }
  uint64_t state() const { return state_; }

 private:
  uint64_t state_;
};

enum class Place : uint8_t { kRecent = 0, kReservoir = 1, kHoldout = 2 };

struct WindowEntry {
  uint64_t sequence = 0;
  uint64_t id = 0;
  int32_t passes = 0;
  Place place = Place::kRecent;
  std::shared_ptr<const TraceRecord> record;
  uint32_t segment = 0;  // of the record of that sequence number
};

class Window {
 public:
  explicit Window(const WindowOptions& options) : options_(options) {}

  // Decides the record's place, the same for all of its segments; may push out others. A record
  // that leaves the holdout becomes a recent one. Of a record that is larger than its share,
  // segments all along it are kept. Rollouts of requests that are held out are left out: the gate
  // would judge a draft by prompts that it has learnt.
  void add(StoredRecord stored, SmallRng& rng);

  // Records whose time is over leave, held out or not.
  void drop_expired(int64_t now_ms);

  // Entries of one step, about `columns` supervised columns (at least one record): the least
  // trained first for half of the draws, any with passes left for the others: spread over all there
  // is, eight passes help, and on the newest alone they harm (docs/results/learning.md). Empty: no
  // work. Counts the pass: call learn() on the result at once. The pointers live until the next
  // add().
  std::vector<const WindowEntry*> draw(int columns, SmallRng& rng);

  // A record that cannot be learnt from leaves with all of its segments, and with the passes that
  // they had. Pointers that draw() gave are gone.
  void drop(uint64_t id);

  bool holds(uint64_t id) const;                    // a record of this id
  std::vector<const TraceRecord*> holdout() const;  // by segment
  uint64_t bytes() const { return bytes_; }
  size_t untrained() const;  // recent records without a pass
  bool has_work() const;     // a recent record has passes left, and their mean is not reached
  size_t recent_count() const { return recent_.size(); }
  uint64_t passes_total() const { return passes_total_; }
  uint64_t records_seen() const { return seen_; }

  // For the checkpoint: everything but the records themselves.
  struct Books {
    uint64_t seen = 0, passes_total = 0, retired = 0;
    std::vector<WindowEntry> entries;  // record empty
  };
  Books books() const;
  // Entries whose record is null (the buffer dropped it) are left out.
  void restore(Books books);

 private:
  bool holds_out(uint64_t id) const;
  bool hash_holds_out(uint64_t id) const;
  void add_segment(WindowEntry entry, SmallRng& rng);
  void add_recent(WindowEntry entry, SmallRng& rng);
  void bound_holdout(SmallRng& rng);
  void retire_oldest(SmallRng& rng);
  void shrink(SmallRng& rng);

  const WindowOptions options_;
  std::deque<WindowEntry> recent_, holdout_;
  std::vector<WindowEntry> reservoir_;
  uint64_t bytes_ = 0;  // of all; of those held out:
  uint64_t holdout_bytes_ = 0;
  bool warned_few_ = false;
  uint64_t seen_ = 0;          // records ever added
  uint64_t passes_total_ = 0;  // (record, pass) pairs ever drawn
  uint64_t retired_ = 0;       // records that ever left the recent ones: the reservoir's n
};

uint64_t record_bytes(const TraceRecord& record);

// The piece of a record that an entry of that segment holds; none: cut otherwise today. Moves the
// record where it is whole.
std::shared_ptr<const TraceRecord> segment_of(TraceRecord& record, uint32_t segment,
                                              const SegmentOptions& options);

}  // namespace aurora
