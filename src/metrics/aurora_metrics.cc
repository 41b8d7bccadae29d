#include "metrics/aurora_metrics.h"

#include <algorithm>

namespace aurora {
namespace {

constexpr std::array<const char*, kTraceDropCount> kDropNames = {
    "queue_full", "buffer_full", "buffer_io",     "buffer_away", "no_rows",
    "opt_out",    "capture_off", "not_sampled",   "lora",        "multimodal",
    "shift",      "aborted",     "not_completion"};
constexpr std::array<const char*, kDraftSkipCount> kSkipNames = {"no_draft", "kv_short",
                                                                 "rows_missing", "error"};
constexpr std::array<const char*, kArmNameCount> kArmNames = {"request_text", "traffic_text",
                                                              "chain", "behind"};
constexpr const char* kRemoved = "aurora:traces_removed_total";
constexpr const char* kRemovedHelp =
    "Traces that left this server's buffer: the oldest where it was full, others at their time.";
// mismatch: a sound file for another target. corrupt: wrong bytes, weights that are not finite.
constexpr std::array<const char*, 4> kRefusedNames = {"truncated", "corrupt", "mismatch", "io"};

// One series for each name, so that a cause shows as 0 before it ever happens.
template <size_t N>
std::array<Counter*, N> counters(Metrics& metrics, const char* name, const char* help,
                                 const char* key, const std::array<const char*, N>& values) {
  std::array<Counter*, N> out{};
  for (size_t i = 0; i < N; ++i) out[i] = &metrics.counter(name, help, label(key, values[i]));
  return out;
}

}  // namespace

ServeMetrics::ServeMetrics(Metrics& m)
    : num_drafts(m.counter("aurora:spec_decode_num_drafts_total", "Drafts proposed.")),
      num_draft_tokens(
          m.counter("aurora:spec_decode_num_draft_tokens_total", "Draft tokens proposed.")),
      num_accepted_tokens(
          m.counter("aurora:spec_decode_num_accepted_tokens_total", "Draft tokens accepted.")),
      target_steps(m.counter("aurora:target_steps_total",
                             "Target decode steps of a slot that produced tokens.")),
      generated_tokens(m.counter("aurora:generated_tokens_total",
                                 "Tokens generated; divided by target steps: accept length.")),
      rollout_tokens(m.counter("aurora:rollout_tokens_total",
                               "Tokens of rollouts, generated to learn from while idle.")),
      draft_version(m.gauge("aurora:draft_version", "Draft version in service, 0: none.")),
      draft_on_trial(m.gauge("aurora:draft_version_on_trial",
                             "Draft version that is compared with the one in service, 0: none.")),
      swaps(m.counter("aurora:swaps_total", "Draft versions adopted.")),
      rollbacks(m.counter("aurora:rollbacks_total",
                          "Draft versions put away, worse than the one they were to replace.")),
      traces_written(m.counter("aurora:traces_written_total", "Traces appended to the buffer.")),
      traces_set_aside(m.counter("aurora:traces_set_aside_total",
                                 "Trace files that were damaged; new ones were begun.")),
      trace_queue_depth(m.gauge("aurora:trace_queue_depth", "Traces waiting for the writer.")),
      trace_buffer_bytes(m.gauge("aurora:trace_buffer_bytes",
                                 "Bytes of traces in this server's buffer; 0 with --buffer.")),
      trace_buffer_bytes_max(
          m.gauge("aurora:trace_buffer_bytes_max", "What it may hold; the oldest leave.")),
      trace_buffer_records(m.gauge("aurora:trace_buffer_records", "Traces in it.")),
      trace_oldest_age_s(m.gauge("aurora:trace_oldest_age_seconds", "Age of the oldest of them.")),
      traces_removed_full(m.counter_of_another(kRemoved, kRemovedHelp, label("cause", "full"))),
      traces_removed_expired(
          m.counter_of_another(kRemoved, kRemovedHelp, label("cause", "expired"))),
      capture_time(m.time_counter("aurora:capture_seconds_total",
                                  "Decode-thread time spent on capturing traces.")),
      draft_time(
          m.time_counter("aurora:draft_seconds_total", "Decode-thread time spent on drafting.")),
      first_token_s(m.histogram("aurora:time_to_first_token_seconds",
                                "From a request's start in its slot to its first token.",
                                {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60})),
      next_token_s(
          m.histogram("aurora:inter_token_seconds",
                      "Between two tokens of a request; those of one step come together.",
                      {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5})),
      draft_s(m.histogram("aurora:draft_seconds", "Drafting for one decode step.",
                          {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1})),
      swap_s(m.histogram("aurora:swap_seconds",
                         "What taking a draft version costs the decode step before which it is "
                         "done.",
                         {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1})),
      speculator_errors(
          m.counter("aurora:speculator_errors_total", "Exceptions caught in the speculator.")),
      log_lines_dropped(
          m.counter_of_another("aurora:log_lines_dropped_total",
                               "Lines of the log that were left out: nobody read it.")),
      trainer_alive(m.gauge("aurora:trainer_alive",
                            "1: the trainer runs beside this server, or reported a moment ago.")),
      trainer_restarts(m.counter("aurora:trainer_restarts_total",
                                 "Times that the trainer beside this server has ended.")),
      trainer_last_exit_code(
          m.gauge("aurora:trainer_last_exit_code", "Of its last end; 128 and more: by a signal.")),
      dropped_(counters(m, "aurora:traces_dropped_total", "Requests that left no trace.", "cause",
                        kDropNames)),
      skipped_(counters(m, "aurora:drafting_skipped_total", "Steps without a proposal.", "cause",
                        kSkipNames)),
      arm_drafted_(counters(m, "aurora:arm_draft_tokens_total",
                            "Draft tokens verified, by where they came from.", "arm", kArmNames)),
      arm_accepted_(counters(m, "aurora:arm_accepted_tokens_total",
                             "Draft tokens accepted, by where they came from.", "arm", kArmNames)),
      refused_(counters(m, "aurora:draft_refused_total", "Draft files refused.", "reason",
                        kRefusedNames)) {
  for (size_t i = 0; i < kDraftPositions; ++i) {
    accepted_[i] = &m.counter("aurora:spec_decode_num_accepted_tokens_per_pos_total",
                              "Draft tokens accepted, by position in the draft.",
                              label("position", std::to_string(i)));
  }
  for (const TrainerFigure& f : trainer_figures())
    // Who says when it reported is a trainer (`aurora status`).
    trainer_.push_back(f.value == &TrainerStatus::updated_ms ? nullptr
                       : f.counter ? &m.counter_of_another(f.name, f.help, f.labels)
                                   : &m.gauge(f.name, f.help, f.labels));
}

Counter& ServeMetrics::accepted_at(size_t position) const {
  return *accepted_[std::min(position, kDraftPositions - 1)];
}

Counter& ServeMetrics::draft_refused(StatusCode why) const {
  switch (why) {
    case StatusCode::kTruncated: return *refused_[0];
    case StatusCode::kCorrupt: return *refused_[1];
    case StatusCode::kInvalid: return *refused_[2];
    default: return *refused_[3];
  }
}

void ServeMetrics::read_trainer(const std::string& path, int64_t now_ms) {
  const Result<TrainerStatus> status = read_trainer_status(path);
  if (!status) {
    trainer_alive.set(0);
    return;
  }
  trainer_alive.set(is_alive(*status, now_ms) ? 1 : 0);
  for (size_t i = 0; i < trainer_.size(); ++i)
    if (trainer_[i]) trainer_[i]->set((*status).*trainer_figures()[i].value);
}

double ServeMetrics::trainer(double TrainerStatus::*figure) const {
  for (size_t i = 0; i < trainer_.size(); ++i)
    if (trainer_[i] && trainer_figures()[i].value == figure) return trainer_[i]->value();
  return 0;
}

}  // namespace aurora
