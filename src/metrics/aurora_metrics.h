// Every figure that a server exposes, registered in one place: the only list of names, but for the
// trainer's own (trainer_status.h). Writers use the members; each add() or set() is one relaxed
// atomic, from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "metrics/metrics.h"
#include "metrics/trainer_status.h"
#include "metrics/version_figures.h"

namespace aurora {

// Why a finished request left no trace. One request counts under one cause.
enum class TraceDrop {
  kQueueFull,      // the writer thread lags
  kBufferFull,     // the record is larger than the buffer may be
  kBufferIo,       // the operating system refused
  kBufferAway,     // --buffer: no broker took it
  kNoRows,         // rows of a cached prefix were not kept, or nothing was served
  kOptOut,         // X-Aurora-Capture: off
  kCaptureOff,     // --capture off
  kNotSampled,     // --capture-rate left it out
  kLora,           // LoRA on the target
  kMultimodal,     // image or sound input
  kShift,          // context shift or cache reuse moved cells
  kAborted,        // the client went away
  kNotCompletion,  // embedding, rerank
};
inline constexpr size_t kTraceDropCount = 13;

// Why a slot proposed nothing in a step.
enum class DraftSkip { kNoDraft, kKvShort, kRowsMissing, kError };
inline constexpr size_t kDraftSkipCount = 4;

// Where a drafted token came from.
inline constexpr size_t kArmNameCount = 4;  // request_text, traffic_text, chain, behind

inline constexpr size_t kDraftPositions = 8;  // later positions count under the last

struct ServeMetrics {
  explicit ServeMetrics(Metrics& metrics);

  Counter& traces_dropped(TraceDrop cause) const { return *dropped_[static_cast<size_t>(cause)]; }
  Counter& drafting_skipped(DraftSkip cause) const { return *skipped_[static_cast<size_t>(cause)]; }
  Counter& arm_drafted(size_t arm) const { return *arm_drafted_[arm]; }
  Counter& arm_accepted(size_t arm) const { return *arm_accepted_[arm]; }
  Counter& accepted_at(size_t position) const;  // 0: the first drafted token
  Counter& draft_refused(
      StatusCode why) const;  // of check_draft_file, Registry::verify or the load

  // What the trainer last wrote (metrics/trainer_status.h). No file or an old one: trainer_alive 0.
  void read_trainer(const std::string& path, int64_t now_ms);
  // As it was read last, 0: never. Any figure but updated_ms.
  double trainer(double TrainerStatus::*figure) const;

  Counter& num_drafts;
  Counter& num_draft_tokens;
  Counter& num_accepted_tokens;
  Counter& target_steps;      // decode steps of a slot that produced tokens
  Counter& generated_tokens;  // accept length = generated_tokens / target_steps
  VersionFigures versions;    // the two above by draft version; no part of Metrics::text()
  Counter& rollout_tokens;    // of rollouts, which the two above leave out
  Gauge& draft_version;       // 0: none
  Gauge& draft_on_trial;      // version that is compared with it, 0: none
  Counter& swaps;
  Counter& rollbacks;
  Counter& traces_written;
  Counter& traces_set_aside;  // files of traces that were damaged
  Gauge& trace_queue_depth;
  Gauge& trace_buffer_bytes;  // these six: of a buffer on this machine, else 0
  Gauge& trace_buffer_bytes_max;
  Gauge& trace_buffer_records;
  Gauge& trace_oldest_age_s;
  Gauge& traces_removed_full;
  Gauge& traces_removed_expired;
  TimeCounter& capture_time;
  TimeCounter& draft_time;
  Histogram& first_token_s;  // of a request in its slot: what waits for one is not in it
  Histogram& next_token_s;   // tokens of one step come together
  Histogram& draft_s;        // of a step
  Histogram& swap_s;
  Counter& speculator_errors;  // exceptions caught at the seam
  Gauge& log_lines_dropped;    // nobody read them
  Gauge& trainer_alive;
  Counter& trainer_restarts;      // of the one beside this server
  Gauge& trainer_last_exit_code;  // 128 + signal; -1: unknown

 private:
  std::array<Counter*, kTraceDropCount> dropped_;
  std::array<Counter*, kDraftSkipCount> skipped_;
  std::array<Counter*, kArmNameCount> arm_drafted_;
  std::array<Counter*, kArmNameCount> arm_accepted_;
  std::array<Counter*, kDraftPositions> accepted_;
  std::array<Counter*, 4> refused_;
  std::vector<Gauge*> trainer_;  // as in trainer_figures(); null: not exposed
};

}  // namespace aurora
