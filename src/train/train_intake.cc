// TrainLoop's way of taking in traces: rank 0 reads and says how far, the others read as far.
#include <algorithm>
#include <bit>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "train/train_loop.h"

namespace aurora {
namespace {

constexpr size_t kReadRecords = 16;
constexpr size_t kReadBytes = 64u << 20;
constexpr size_t kUntrainedMax = 32;  // while so many wait for their first pass, reading waits ...
constexpr uint64_t kLagMax = 128;     // ... unless the buffer runs so far ahead
constexpr double kVocabGainMin = 0.002;
constexpr uint64_t kVocabHalfLife = 512;   // records, about what the window holds
constexpr uint64_t kVocabLookEvery = 256;  // records between two looks at most
// How long a rank waits for records that rank 0 has read already: a replica may lag, a broker be
// away for this rank alone.
constexpr double kCatchUpSeconds = 0.1;
constexpr int kCatchUpTries = 50;

}  // namespace

Result<bool> TrainLoop::to_read() {
  const bool wants = wants_records();
  if (!options_.once) return any_rank(seams_.ranks, wants);
  const auto busy =
      any_rank(seams_.ranks, !wants);  // every record gets its passes before the next ones
  if (!busy) return busy;
  return !*busy;
}

bool TrainLoop::wants_records() {
  if (!window_.has_work()) return true;
  if (options_.once) return false;
  if (window_.untrained() < kUntrainedMax) return true;
  // While nothing is read, nobody else says how far the buffer has run ahead.
  const double age_s = static_cast<double>(steady_us() - lag_us_) / 1e6;
  if (age_s >= options_.lag_look_every_s) look_at_lag();
  return figures_.lag_records > kLagMax;
}

void TrainLoop::look_at_lag() {
  lag_us_ = steady_us();
  if (auto lag = seams_.buffer.records_after(cursor_)) figures_.lag_records = *lag;
}

// Counted by cause. Records of other targets are no news in a shared buffer.
bool TrainLoop::usable(const StoredRecord& stored) {
  if (tries_.poison(stored.record.id)) {
    ++figures_.dropped_records;
    return false;
  }
  const Unusable cause = check_record(stored.record, options_.target, options_.shape);
  if (cause == Unusable::kNone) return true;
  const uint64_t count = ++figures_.unusable[static_cast<size_t>(cause)];
  if (cause != Unusable::kForeign && std::has_single_bit(count))
    LOG_WARN("train", "record %llu is left out (%s), number %llu of the kind",
             static_cast<unsigned long long>(stored.sequence), unusable_name(cause),
             static_cast<unsigned long long>(count));
  return false;
}

// What rank 0 has read, for the others to read as well.
struct TrainLoop::Intake {
  bool some = false;           // records came
  uint64_t read_to = 0;        // the last of them, or where it stood
  uint64_t cursor = 0;         // where reading goes on
  uint64_t lag = 0;            // records behind it
  std::vector<int64_t> vocab;  // empty: stays as it is
};

Result<bool> TrainLoop::take_in() {
  window_.drop_expired(unix_ms());
  Intake intake;
  if (leads()) {
    Result<Intake> more = read_more();
    if (!more) return more.status();
    intake = std::move(*more);
  }
  if (Status s = share(intake); !s) return s;
  if (!leads()) {
    if (Status s = read_up_to(intake.read_to); !s) return s;
    cursor_ = intake.cursor;
    figures_.lag_records = intake.lag;
  }
  if (!intake.vocab.empty()) {
    if (Status s = seams_.learner.set_vocab(std::move(intake.vocab)); !s) {
      if (seams_.ranks) return s;  // the others have it
      LOG_WARN("train", "draft vocabulary: %s", s.to_string().c_str());
    }
  }
  return intake.some;
}

Result<TrainLoop::Intake> TrainLoop::read_more() {
  Intake intake = {.read_to = cursor_, .cursor = cursor_, .lag = figures_.lag_records, .vocab = {}};
  auto batch = seams_.buffer.read(cursor_, kReadRecords, kReadBytes);
  if (!batch) {
    // It gets no more records: the server begins another, and the next trainer reads that one.
    if (batch.status().code() == StatusCode::kCorrupt) return batch.status();
    // The server may be creating the buffer: training goes on with what is there.
    LOG_WARN("train", "reading traces: %s", batch.status().to_string().c_str());
    return intake;
  }
  intake.some = !batch->empty();
  for (StoredRecord& stored : *batch) add(std::move(stored));
  intake.read_to = cursor_;
  if (auto stats = seams_.buffer.stats()) follow_reset(stats->last_sequence);
  look_at_lag();
  intake.cursor = cursor_;
  intake.lag = figures_.lag_records;
  intake.vocab = new_vocab();
  return intake;
}

// From rank 0 to all.
Status TrainLoop::share(Intake& intake) const {
  if (!seams_.ranks) return Status::ok();
  ByteWriter out;
  out.put<uint8_t>(intake.some ? 1 : 0);
  for (uint64_t value : {intake.read_to, intake.cursor, intake.lag}) out.put(value);
  out.put<uint64_t>(intake.vocab.size());
  out.put_span<int64_t>(intake.vocab);
  std::vector<std::byte> bytes = std::move(out).take();
  if (Status s = seams_.ranks->broadcast(bytes); !s) return s;
  ByteReader in(bytes);
  intake.some = in.get<uint8_t>() != 0;
  for (uint64_t* value : {&intake.read_to, &intake.cursor, &intake.lag})
    *value = in.get<uint64_t>();
  intake.vocab = in.get_vector<int64_t>(in.get<uint64_t>());
  return in.ok() ? Status::ok() : Status::corrupt("what rank 0 says it has read");
}

// The same records as rank 0, less what the buffer has dropped since.
Status TrainLoop::read_up_to(uint64_t sequence) {
  for (int tries = 0; cursor_ < sequence;) {
    auto batch = seams_.buffer.read(cursor_, kReadRecords, kReadBytes);
    if (batch && !batch->empty()) {
      for (StoredRecord& stored : *batch) {
        if (stored.sequence > sequence) return Status::ok();
        add(std::move(stored));
      }
      continue;
    }
    if (++tries < kCatchUpTries) {
      seams_.sleep(kCatchUpSeconds);
      continue;
    }
    if (!batch) return batch.status();
    LOG_WARN("train", "records %llu to %llu, which rank 0 has read, do not come: going on",
             static_cast<unsigned long long>(cursor_ + 1),
             static_cast<unsigned long long>(sequence));
    return Status::ok();
  }
  return Status::ok();
}

// Every rank sees every record and keeps its own.
void TrainLoop::add(StoredRecord stored) {
  cursor_ = stored.sequence;
  dirty_ = true;
  if (!options_.branches) drop_branches(stored.record);
  if (!usable(stored)) return;
  const bool own = owner_rank(stored.record.id, ranks_count_) == rank_;
  if (own && window_.holds(stored.record.id)) return;  // sent twice by a server without an answer
  if (stored.record.rollout_of == 0)
    figures_.trained_tokens += static_cast<uint64_t>(stored.record.served_tokens());
  vocab_.observe(stored.record);
  const uint64_t seen = records_seen();
  if (own) window_.add(std::move(stored), rng_);
  else ++others_seen_;
  if (records_seen() / kVocabHalfLife != seen / kVocabHalfLife) vocab_.halve();
}

void TrainLoop::follow_reset(uint64_t last_sequence) {
  if (last_sequence < cursor_) {
    // A broker that lost its disk, or a stream that was made anew. What is there now may be old, so
    // reading goes on at its end.
    LOG_WARN(
        "train", "the traces end at %llu, before %llu where this trainer stood: going on there",
        static_cast<unsigned long long>(last_sequence), static_cast<unsigned long long>(cursor_));
    cursor_ = last_sequence;
  }
}

// Looked at often while little is known, then rarely: each exchange throws trained head rows away.
// Never so rarely that new traffic waits for its tokens.
std::vector<int64_t> TrainLoop::new_vocab() {
  const uint64_t seen = records_seen();
  const uint64_t wait = std::clamp<uint64_t>(seen / 8, vocab_at_ == 0 ? 1 : 4, kVocabLookEvery);
  if (seen < vocab_at_ + wait) return {};
  vocab_at_ = seen;
  std::vector<int64_t> next = vocab_.next(seams_.learner.vocab(), kVocabGainMin);
  if (next == seams_.learner.vocab()) next.clear();
  return next;
}

}  // namespace aurora
