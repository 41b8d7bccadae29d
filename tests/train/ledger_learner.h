// A learner whose only weights are the list of records that trained it.
#pragma once

#include <unistd.h>

#include <vector>

#include "base/bytes.h"
#include "train/toy_training.h"

namespace aurora {

// Thrown where a process would die.
struct Killed {};

class LedgerLearner final : public Learner {
 public:
  std::vector<uint64_t> trained;  // record ids, in order
  std::vector<int64_t> ids = first_ids(8);
  uint8_t lead = 1;     // of every column
  int fail = 0;         // so many steps fail from now on
  uint64_t bad = 0;     // a record whose steps fail
  uint64_t deadly = 0;  // a record whose steps, or replays, kill
  bool deadly_replays = false;
  bool other_shape = false;  // than what is loaded
  int64_t save_us = 0;       // what save() takes
  mutable int saves = 0;
  int replayed = 0;  // records

  Result<LearnResult> learn(RecordRefs records) override {
    if (fail > 0 && fail-- > 0) return Status::internal("not finite");
    for (const TraceRecord* r : records) {
      if (r->id == deadly && !deadly_replays) throw Killed();
      if (r->id == bad) return Status::internal("not finite");
    }
    LearnResult result = {.loss = 1, .rows = 1, .columns = 1, .seconds = 0.01};
    for (const TraceRecord* r : records) trained.push_back(r->id);
    return result;
  }
  Result<std::vector<Leads>> leads(RecordRefs records, int) override {
    std::vector<Leads> out;
    for (const TraceRecord* r : records) {
      if (r->id == deadly && deadly_replays) throw Killed();
      ++replayed;
      out.emplace_back(static_cast<size_t>(r->served_tokens() - 1), lead);
    }
    return out;
  }
  DraftWeights snapshot() const override { return toy_draft(toy_shape(), ids, 1); }
  const std::vector<int64_t>& vocab() const override { return ids; }
  Status set_vocab(std::vector<int64_t> d2t) override {
    ids = std::move(d2t);
    return Status::ok();
  }
  uint64_t checksum() const override { return trained.size(); }
  SavedLearner save() const override {
    ++saves;
    usleep(static_cast<useconds_t>(save_us));
    ByteWriter out;
    out.put<uint64_t>(trained.size());
    out.put_span<uint64_t>(trained);
    return {std::move(out).take(), {}};
  }
  Status load(std::span<const std::byte> bytes) override {
    if (other_shape) return Status::invalid("another shape");
    ByteReader in(bytes);
    trained = in.get_vector<uint64_t>(in.get<uint64_t>());
    return in.ok() ? Status::ok() : Status::truncated("ledger");
  }
};

}  // namespace aurora
