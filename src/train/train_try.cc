// TrainLoop's tries: what a step does about records that fail, and about those that the trainer has
// died of.
#include <algorithm>
#include <bit>

#include "base/log.h"
#include "train/train_loop.h"

namespace aurora {
namespace {

constexpr int kFailuresMax = 50;  // steps in a row in which nothing was learnt
constexpr int kStrikesMax = 3;    // failures alone until a record is dropped
constexpr size_t kStrikesKept = 1024;

double running_mean(double mean, double value, uint64_t count) {
  const double keep = std::min(0.95, 1.0 - 1.0 / static_cast<double>(count));
  return keep * mean + (1 - keep) * value;
}

}  // namespace

// A record that cannot be learnt costs the others of its step nothing: where the step fails, each
// is tried alone. Ranks step together, so there the step is left out.
Status TrainLoop::learn(RecordRefs records) {
  const auto result = tried(records);
  if (result) {
    note(*result);
    return Status::ok();
  }
  if (lost()) return result.status();
  if (!seams_.ranks && !records.empty()) return learn_each(records, result.status());
  LOG_WARN("train", "step left out: %s", result.status().to_string().c_str());
  return ++failures_ < kFailuresMax ? Status::ok() : result.status();
}

Result<LearnResult> TrainLoop::tried(RecordRefs records) {
  std::vector<Piece> pieces;
  for (const TraceRecord* record : records) pieces.push_back(piece_of(*record));
  tries_.begin(pieces);
  auto result = seams_.learner.learn(records);
  tries_.end();
  return result;
}

// A trainer that learns nothing from anybody stops: then it is not the records.
Status TrainLoop::learn_each(RecordRefs records, const Status& together) {
  bool some = false;
  Status last = together;
  for (const TraceRecord* record : records) {
    const auto alone = records.size() > 1 ? tried({&record, 1}) : Result<LearnResult>(together);
    if (alone) {
      some = true;
      note(*alone);
      strikes_.erase(piece_of(*record));
      continue;
    }
    last = alone.status();
    if (strikes_.size() >= kStrikesKept) strikes_.erase(strikes_.begin());
    if (++strikes_[piece_of(*record)] < kStrikesMax) continue;
    strikes_.erase(piece_of(*record));
    window_.drop(record->id);
    if (std::has_single_bit(++figures_.dropped_records))
      LOG_WARN("train", "record %016llx is dropped, number %llu: %s",
               static_cast<unsigned long long>(record->id),
               static_cast<unsigned long long>(figures_.dropped_records), last.to_string().c_str());
  }
  if (some) return Status::ok();
  return ++failures_ < kFailuresMax ? Status::ok() : last;
}

void TrainLoop::note(const LearnResult& result) {
  failures_ = 0;
  figures_.trained_columns += static_cast<uint64_t>(result.columns);
  figures_.training_s += result.seconds;
  if (result.rows + result.branch_rows == 0) return;
  figures_.loss = running_mean(figures_.loss, result.loss, figures_.steps);
  if (figures_.steps <= 20) loss_first_ = figures_.loss;
  if (!seams_.ranks && guard_.astray(result.loss)) go_back();
  if (result.seconds > 0)
    figures_.rows_per_s =
        running_mean(figures_.rows_per_s, result.columns / result.seconds, figures_.steps);
}

// Leaves off when the trainer is asked to leave: on a large target it takes longer than it has.
Result<std::vector<ReplayScore>> TrainLoop::replayed(Scorer& scorer, RecordRefs records) {
  auto scores = replay(scorer, records, options_.draft_depth, [this](const TraceRecord& record) {
    if (stop_ && stop_()) return false;
    if (seams_.next_step) seams_.next_step(true);
    const Piece piece = piece_of(record);
    tries_.begin({&piece, 1});
    return true;
  });
  tries_.end();
  return scores;
}

}  // namespace aurora
