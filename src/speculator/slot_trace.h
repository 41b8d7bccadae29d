// What one slot's request has shown so far: rows, laws, verify steps. Becomes a TraceRecord when
// the request ends. Owned by the engine thread until taken; a taken one is plain data, turned into
// a record on the writer's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "aurora_seam.h"
#include "trace/record.h"

namespace aurora {

struct RefusedRows {
  std::vector<RefusedRow> rows;
  std::vector<KeptRowPtr> taps;  // same length
  LawRows laws;                  // same length
};

class SlotTrace {
 public:
  // capture: false keeps counting steps and nothing else.
  void start(const RequestStart& start, bool capture, int32_t law_count);

  // The target decoded rows of this slot: `laws` holds one row for each position with logits, from
  // `first` on. drafted.size() + 1 rows when a draft is being verified, else one.
  void step(int32_t first, int64_t draft_version);
  LawRows& step_laws() { return step_laws_; }
  void set_draft(std::vector<int32_t> tokens, std::vector<float> probs);

  // The verify step of the last step() accepted this many. rows: the slot's kept rows, refused ones
  // included; they are cut to the accepted positions here.
  void accept(int32_t accepted, KeptRows& rows, size_t refused_max);

  void serve(int32_t token) { served_.push_back(token); }

  bool active() const { return active_; }
  bool capturing() const { return active_ && capture_; }
  bool verifying() const { return !drafted_.empty(); }
  const std::vector<int32_t>& drafted() const { return drafted_; }
  const RequestStart& request() const { return request_; }
  int32_t served() const { return static_cast<int32_t>(served_.size()); }
  int32_t target_steps() const { return target_steps_; }
  void stop() { active_ = false; }
  // Something of the target's law is missing: no record can be made of this request.
  void give_up() { capture_ = false; }

  // Of the record that to_record() would make, without making it.
  size_t rows() const;
  uint64_t record_bytes(int32_t hidden) const;

  // Whether rows and served text match, from a position in the prompt on: what stands before it
  // may be without rows.
  bool has_rows(const KeptRows& rows) const;
  // Called on the writer's thread. The record begins with the first known row. id, times, target,
  // tap layers and hidden come from the caller.
  TraceRecord to_record(const std::vector<KeptRowPtr>& rows, TraceRecord head) const;

 private:
  int32_t token_at(size_t position) const;

  bool active_ = false;
  bool capture_ = false;
  RequestStart request_;
  std::vector<int32_t> served_;
  std::vector<VerifyStep> steps_;
  RefusedRows refused_;
  LawRows laws_;
  int32_t target_steps_ = 0;

  // The step in flight.
  std::vector<int32_t> drafted_;
  std::vector<float> draft_probs_;
  LawRows step_laws_;
  int32_t step_first_ = 0;
  int64_t step_version_ = 0;
};

}  // namespace aurora
