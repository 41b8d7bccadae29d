// The layout of dir/traces is known in this one file: writing, dropping and reading agree on it.
// One unnamed database, keys of 12 bytes, sequence then piece, both big-endian so that LMDB's byte
// order is ours (docs/trace-format.md). Sequence 0 holds the mark and the state.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file_lock.h"
#include "base/files.h"
#include "base/log.h"
#include "trace/lmdb_check.h"
#include "trace/lmdb_env.h"
#include "trace/pages_read.h"
#include "trace/trace_buffer.h"

namespace aurora {
namespace {

// One LMDB page less its header. Pieces of one page each leave no gaps when they are dropped;
// records as single values need runs of free pages, and the free list would splinter.
constexpr size_t kPieceBytes = 4096 - 16;
constexpr size_t kMapReserveBytes = 64u << 20;  // tree pages, free list, one record being written
constexpr int kOpenWaitMs = 5000;
constexpr char kTracesMark[] = "aurora traces 1";

// MDB_NOMETASYNC: a commit syncs the data before its meta page is written, so that after power loss
// the file is whole (less the last record or two) and a restart does not meet a torn tree. Without
// any sync (MDB_NOSYNC) a kill -9 would be survived too, but not that. The price is one fdatasync
// an append, on the caller's writer thread, never on the decode thread.
constexpr unsigned kTracesFlags = MDB_NOMETASYNC;

using Key = std::array<std::byte, 12>;

Key make_key(uint64_t sequence, uint32_t piece) {
  Key key{};
  for (size_t i = 0; i < 8; ++i) key[i] = static_cast<std::byte>(sequence >> (56 - 8 * i));
  for (size_t i = 0; i < 4; ++i) key[8 + i] = static_cast<std::byte>(piece >> (24 - 8 * i));
  return key;
}

// 0 for a key that is none of ours.
uint64_t key_sequence(const MDB_val& key) {
  if (key.mv_size != sizeof(Key)) return 0;
  uint64_t sequence = 0;
  for (size_t i = 0; i < 8; ++i) {
    sequence = sequence << 8 | static_cast<const uint8_t*>(key.mv_data)[i];
  }
  return sequence;
}

const Key kMarkKey = make_key(0, 0);
const Key kStateKey = make_key(0, 1);

// Kept in the same transaction as the records that it counts.
struct State {
  uint64_t next_sequence = 1;
  uint64_t records = 0;
  uint64_t bytes = 0;
};
static_assert(sizeof(State) == 24);

struct RawRecord {
  uint64_t sequence = 0;
  std::vector<std::byte> bytes;
};

struct RawBatch {
  std::vector<RawRecord> records;
  uint64_t last_seen = 0;  // everything up to it was looked at
  bool at_end = false;
};

class LmdbBuffer final : public TraceBuffer {
 public:
  static Result<std::unique_ptr<TraceBuffer>> open(const TraceBufferOptions& options);

  Result<uint64_t> append(const TraceRecord& record) override;
  Result<std::vector<StoredRecord>> read(uint64_t after, size_t count, size_t bytes_max) override;
  uint64_t record_bytes_max() const override {
    return std::min(options_.bytes_max, kRecordBytesMax);
  }
  Status remove_expired(int64_t now_ms) override;
  Result<TraceBufferStats> stats() override;

 private:
  explicit LmdbBuffer(TraceBufferOptions options) : options_(std::move(options)) {}
  std::string in_dir(const char* name) const { return options_.dir + "/" + name; }

  Status open_envs();
  Status prepare_traces();
  Status find_map();

  Result<State> load_state(MDB_txn* txn) const;
  Status store_state(MDB_txn* txn, const State& state) const;
  Result<CursorPtr> open_cursor(MDB_txn* txn) const;

  Result<uint64_t> append_once(std::span<const std::byte> bytes);
  Status put_pieces(MDB_cursor* cursor, uint64_t sequence, std::span<const std::byte> bytes) const;
  Status drop_oldest(MDB_cursor* cursor, State& state) const;
  Status remove_record(MDB_cursor* cursor, uint64_t sequence, State& state) const;
  bool clear_stale_readers();

  Result<RawBatch> copy_out(uint64_t after, size_t count, size_t bytes_max);
  Status copy_record(MDB_cursor* cursor, MDB_val& key, MDB_val& value, RawRecord& into,
                     PagesRead& pages) const;
  void note_corrupt(uint64_t sequence, const Status& why);

  TraceBufferOptions options_;  // const after open, as are the next four
  std::optional<FileLock> writer_lock_;
  LmdbEnv::Ptr traces_;                        // before its reader, so that it is closed after it
  std::unique_ptr<LmdbReader> traces_reader_;  // used with read_mutex_

  std::span<const std::byte> map_;  // writer

  std::mutex write_mutex_;
  std::mutex read_mutex_;

  std::atomic<uint64_t> dropped_oldest_{0};
  std::atomic<uint64_t> expired_{0};
  std::atomic<uint64_t> corrupt_{0};
  std::atomic<uint64_t> corrupt_sequence_max_{0};
};

// ---- opening ----

Result<std::unique_ptr<TraceBuffer>> LmdbBuffer::open(const TraceBufferOptions& options) {
  if (options.bytes_max == 0) return Status::invalid("a trace buffer of 0 bytes");
  if (Status status = make_dirs(options.dir); !status) return status;
  // One name for one directory: environments are shared by name within a process.
  TraceBufferOptions resolved = options;
  char real[PATH_MAX];
  if (::realpath(options.dir.c_str(), real) == nullptr) {
    return Status::io("cannot resolve " + options.dir + ": " + std::strerror(errno));
  }
  resolved.dir = real;
  std::unique_ptr<LmdbBuffer> buffer(new LmdbBuffer(std::move(resolved)));
  if (Status status = buffer->open_envs(); !status) return status;
  return std::unique_ptr<TraceBuffer>(std::move(buffer));
}

Status LmdbBuffer::open_envs() {
  const bool writes = options_.role == TraceBufferOptions::Role::kWriter;
  if (writes) {
    Result<FileLock> lock = FileLock::acquire(in_dir("writer.lock"), 0);
    if (!lock && lock.status().code() == StatusCode::kUnavailable) {
      return Status::unavailable(options_.dir +
                                 " already has a writer: one server per trace buffer");
    }
    if (!lock) return lock.status();
    writer_lock_ = std::move(*lock);
  }
  // LMDB's table of readers has a lock of its own, taken for a moment by whoever takes a place in
  // it or clears it. Everyone here holds the open lock around that moment, so a process stopped in
  // it is met at this line, with a bound, and never by append().
  Result<FileLock> open_lock = FileLock::acquire(in_dir("open.lock"), kOpenWaitMs);
  if (!open_lock) return open_lock.status();

  if (writes) {
    if (Status status = check_lmdb_file(in_dir("traces")); !status) return status;
  }
  // Two generations: the one held, and one more while a stopped reader pins the pages of the first.
  const size_t map_bytes = writes ? 2 * options_.bytes_max + kMapReserveBytes : 0;
  Result<LmdbEnv::Ptr> traces = LmdbEnv::open(in_dir("traces"), map_bytes, kTracesFlags);
  if (!traces) return traces.status();
  traces_ = std::move(*traces);
  if (Result<int> cleared = traces_->clear_dead_readers(); !cleared) return cleared.status();
  Result<std::unique_ptr<LmdbReader>> reader = LmdbReader::open(*traces_);
  if (!reader) return reader.status();
  traces_reader_ = std::move(*reader);
  if (Status status = prepare_traces(); !status) return status;
  return writes ? find_map() : Status::ok();
}

// The writer marks a new file as ours; a reader only looks. The writer's first write transaction
// also repairs what a killed writer left of LMDB's lock, here where the open lock is held.
Status LmdbBuffer::prepare_traces() {
  if (options_.role == TraceBufferOptions::Role::kReader) {
    Result<MDB_txn*> txn = traces_reader_->begin();
    if (!txn) return txn.status();
    const ReadScope scope(traces_reader_.get());
    return traces_->check_mark(*txn, kMarkKey, kTracesMark);
  }
  LmdbWrite write(*traces_);
  if (!write.status()) return write.status();
  if (Status status = traces_->check_mark(write.txn(), kMarkKey, kTracesMark); !status) {
    return status;
  }
  Result<State> state = load_state(write.txn());
  if (!state) return state.status();
  if (state->next_sequence > 1) return Status::ok();
  MDB_val key = as_val(kMarkKey);
  MDB_val mark{sizeof kTracesMark - 1, const_cast<char*>(kTracesMark)};
  if (int code = mdb_put(write.txn(), traces_->database(), &key, &mark, 0); code != 0) {
    return traces_->error("write", code);
  }
  if (Status status = store_state(write.txn(), *state); !status) return status;
  return write.commit();
}

// It stays where it is: only a writer that opens makes it longer.
Status LmdbBuffer::find_map() {
  Result<MDB_txn*> txn = traces_reader_->begin();
  if (!txn) return txn.status();
  const ReadScope scope(traces_reader_.get());
  MDB_val key = as_val(kMarkKey);
  MDB_val mark{};
  const int code = mdb_get(*txn, traces_->database(), &key, &mark);
  if (code != 0) return traces_->error("read", code);
  map_ = {map_begin_of(mark, traces_->page_bytes()), traces_->map_bytes()};
  return Status::ok();
}

Result<State> LmdbBuffer::load_state(MDB_txn* txn) const {
  MDB_val key = as_val(kStateKey);
  MDB_val value{};
  const int code = mdb_get(txn, traces_->database(), &key, &value);
  if (code == MDB_NOTFOUND) return State{};
  if (code != 0) return traces_->error("read", code);
  State state;
  if (value.mv_size != sizeof state) return traces_->error("read", MDB_CORRUPTED);
  std::memcpy(&state, value.mv_data, sizeof state);
  return state;
}

Status LmdbBuffer::store_state(MDB_txn* txn, const State& state) const {
  MDB_val key = as_val(kStateKey);
  MDB_val value = as_val(std::as_bytes(std::span(&state, 1)));
  const int code = mdb_put(txn, traces_->database(), &key, &value, 0);
  return code == 0 ? Status::ok() : traces_->error("write", code);
}

Result<CursorPtr> LmdbBuffer::open_cursor(MDB_txn* txn) const {
  MDB_cursor* cursor = nullptr;
  if (int code = mdb_cursor_open(txn, traces_->database(), &cursor); code != 0) {
    return traces_->error("read", code);
  }
  return CursorPtr(cursor);
}

// ---- writing ----

Result<uint64_t> LmdbBuffer::append(const TraceRecord& record) {
  if (!writer_lock_) return Status::invalid("append on a trace buffer opened for reading");
  if (Status status = validate(record); !status) return Status::invalid(status.message());
  const Result<std::vector<std::byte>> bytes = encode(record, record_bytes_max());
  if (!bytes)
    return Status(bytes.status().code(), traces_->path() + ": " + bytes.status().message());
  const std::lock_guard lock(write_mutex_);
  Result<uint64_t> sequence = append_once(*bytes);
  if (!sequence && sequence.status().code() == StatusCode::kFull && clear_stale_readers()) {
    return append_once(*bytes);
  }
  return sequence;
}

// Dropping and appending are one transaction: a kill between them is not possible.
Result<uint64_t> LmdbBuffer::append_once(std::span<const std::byte> bytes) {
  LmdbWrite write(*traces_);
  if (!write.status()) return write.status();
  Result<State> state = load_state(write.txn());
  if (!state) return state.status();
  const uint64_t records_before = state->records;
  {
    Result<CursorPtr> cursor = open_cursor(write.txn());
    if (!cursor) return cursor.status();
    while (state->bytes + bytes.size() > options_.bytes_max) {
      if (Status status = drop_oldest(cursor->get(), *state); !status) return status;
    }
    if (Status status = put_pieces(cursor->get(), state->next_sequence, bytes); !status) {
      return status;
    }
  }
  const uint64_t dropped = records_before - state->records;
  const uint64_t sequence = state->next_sequence++;
  state->records += 1;
  state->bytes += bytes.size();
  if (Status status = store_state(write.txn(), *state); !status) return status;
  if (Status status = write.commit(); !status) return status;
  dropped_oldest_ += dropped;
  return sequence;
}

Status LmdbBuffer::put_pieces(MDB_cursor* cursor, uint64_t sequence,
                              std::span<const std::byte> bytes) const {
  for (uint32_t piece = 0; !bytes.empty(); ++piece) {
    const std::span<const std::byte> part = bytes.first(std::min(kPieceBytes, bytes.size()));
    const Key name = make_key(sequence, piece);
    MDB_val key = as_val(name);
    MDB_val value = as_val(part);
    // Sequences only rise, so every piece goes to the end: pages are filled, not split.
    if (int code = mdb_cursor_put(cursor, &key, &value, MDB_APPEND); code != 0) {
      return traces_->error("write", code);
    }
    bytes = bytes.subspan(part.size());
  }
  return Status::ok();
}

Status LmdbBuffer::drop_oldest(MDB_cursor* cursor, State& state) const {
  const Key first = make_key(1, 0);
  MDB_val key = as_val(first);
  MDB_val value{};
  const int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
  if (code == MDB_NOTFOUND) {
    state.records = 0;
    state.bytes = 0;
    return Status::ok();
  }
  if (code != 0) return traces_->error("read", code);
  return remove_record(cursor, key_sequence(key), state);
}

Status LmdbBuffer::remove_record(MDB_cursor* cursor, uint64_t sequence, State& state) const {
  const Key first = make_key(sequence, 0);
  uint64_t removed = 0;
  for (;;) {
    MDB_val key = as_val(first);
    MDB_val value{};
    const int found = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (found == MDB_NOTFOUND || (found == 0 && key_sequence(key) != sequence)) break;
    if (found != 0) return traces_->error("read", found);
    if (!is_on_sound_page(value, map_, traces_->page_bytes()))
      return traces_->error("write", MDB_CORRUPTED);
    removed += value.mv_size;
    if (int code = mdb_cursor_del(cursor, 0); code != 0) return traces_->error("write", code);
  }
  if (removed == 0) return traces_->error("read", MDB_CORRUPTED);  // or it is looked for for ever
  state.bytes -= std::min(state.bytes, removed);
  state.records -= std::min<uint64_t>(state.records, 1);
  return Status::ok();
}

// Only when nobody is just opening: the lock of LMDB's reader table may be held by a stopped
// process then (see open_envs).
bool LmdbBuffer::clear_stale_readers() {
  const Result<FileLock> lock = FileLock::acquire(in_dir("open.lock"), 0);
  if (!lock) return false;
  const Result<int> cleared = traces_->clear_dead_readers();
  return cleared && *cleared > 0;
}

Status LmdbBuffer::remove_expired(int64_t now_ms) {
  if (!writer_lock_) return Status::invalid("only the writer removes records");
  const std::lock_guard lock(write_mutex_);
  LmdbWrite write(*traces_);
  if (!write.status()) return write.status();
  Result<State> state = load_state(write.txn());
  if (!state) return state.status();
  uint64_t removed = 0;
  {
    Result<CursorPtr> cursor = open_cursor(write.txn());
    if (!cursor) return cursor.status();
    for (uint64_t next = 1;;) {
      const Key from = make_key(next, 0);
      MDB_val key = as_val(from);
      MDB_val value{};
      const int code = mdb_cursor_get(cursor->get(), &key, &value, MDB_SET_RANGE);
      if (code == MDB_NOTFOUND) break;
      if (code != 0) return traces_->error("read", code);
      const uint64_t sequence = key_sequence(key);
      if (sequence < next) return traces_->error("read", MDB_CORRUPTED);
      next = sequence + 1;
      const Result<RecordHead> head = decode_head(as_bytes(value));
      if (!head || head->expires_ms == 0 || head->expires_ms > now_ms) continue;
      if (Status status = remove_record(cursor->get(), sequence, *state); !status) return status;
      ++removed;
    }
  }
  if (removed == 0) return Status::ok();
  if (Status status = store_state(write.txn(), *state); !status) return status;
  if (Status status = write.commit(); !status) return status;
  expired_ += removed;
  return Status::ok();
}

// ---- reading ----

Result<std::vector<StoredRecord>> LmdbBuffer::read(uint64_t after, size_t count, size_t bytes_max) {
  std::vector<StoredRecord> records;
  if (count == 0) return records;
  // A batch may hold nothing but broken records: then the next one is looked at, so that an empty
  // answer always means the end.
  for (;;) {
    Result<RawBatch> batch = copy_out(after, count, bytes_max);
    if (!batch) return batch.status();
    for (const RawRecord& raw : batch->records) {
      Result<TraceRecord> record = decode(raw.bytes);
      if (record) {
        records.push_back({raw.sequence, std::move(*record)});
      } else {
        note_corrupt(raw.sequence, record.status());
      }
    }
    if (records.empty() && batch->at_end && !traces_->is_in_place())
      return Status::corrupt(traces_->path() + " was moved away: what comes is in a new one");
    if (!records.empty() || batch->at_end) return records;
    after = batch->last_seen;
  }
}

// Whole records as bytes, expired ones left out. Decoding comes after: the transaction pins pages.
Result<RawBatch> LmdbBuffer::copy_out(uint64_t after, size_t count, size_t bytes_max) {
  const std::lock_guard lock(read_mutex_);
  Result<MDB_txn*> txn = traces_reader_->begin();
  if (!txn) return txn.status();
  const ReadScope scope(traces_reader_.get());
  Result<CursorPtr> cursor = open_cursor(*txn);
  if (!cursor) return cursor.status();

  PagesRead pages;
  RawBatch batch{.records = {}, .last_seen = after, .at_end = false};
  const int64_t now_ms = unix_ms();
  size_t bytes = 0;
  while (batch.records.size() < count) {
    if (batch.last_seen == UINT64_MAX) {
      batch.at_end = true;
      break;
    }
    const Key from = make_key(batch.last_seen + 1, 0);
    MDB_val key = as_val(from);
    MDB_val value{};
    const int code = mdb_cursor_get(cursor->get(), &key, &value, MDB_SET_RANGE);
    if (code != 0 && code != MDB_NOTFOUND) return traces_->error("read", code);
    batch.at_end = code == MDB_NOTFOUND;
    if (batch.at_end) break;
    RawRecord raw{.sequence = key_sequence(key), .bytes = {}};
    if (raw.sequence <= batch.last_seen) return traces_->error("read", MDB_CORRUPTED);
    const Result<RecordHead> head = decode_head(as_bytes(value));
    const bool expired = head && head->expires_ms != 0 && head->expires_ms <= now_ms;
    const size_t record_bytes = head ? head->record_bytes : value.mv_size;
    if (!expired && !batch.records.empty() && bytes + record_bytes > bytes_max) break;
    batch.last_seen = raw.sequence;
    if (expired) continue;
    if (Status status = copy_record(cursor->get(), key, value, raw, pages); !status) return status;
    bytes += raw.bytes.size();
    batch.records.push_back(std::move(raw));
  }
  return batch;
}

// From the piece that the cursor stands on to the last one of the same sequence.
Status LmdbBuffer::copy_record(MDB_cursor* cursor, MDB_val& key, MDB_val& value, RawRecord& into,
                               PagesRead& pages) const {
  int code = 0;
  while (code == 0 && key_sequence(key) == into.sequence) {
    const std::span<const std::byte> piece = as_bytes(value);
    if (piece.size() > kPieceBytes) return traces_->error("read", MDB_CORRUPTED);
    into.bytes.insert(into.bytes.end(), piece.begin(), piece.end());
    pages.add(value.mv_data);
    code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
  }
  return code == 0 || code == MDB_NOTFOUND ? Status::ok() : traces_->error("read", code);
}

// A consumer may pass a broken record many times: it is counted and logged at the first.
void LmdbBuffer::note_corrupt(uint64_t sequence, const Status& why) {
  uint64_t seen = corrupt_sequence_max_.load();
  while (seen < sequence && !corrupt_sequence_max_.compare_exchange_weak(seen, sequence)) {
  }
  if (seen >= sequence) return;
  ++corrupt_;
  LOG_WARN("trace", "%s: record %llu skipped: %s", traces_->path().c_str(),
           static_cast<unsigned long long>(sequence), why.to_string().c_str());
}

Result<TraceBufferStats> LmdbBuffer::stats() {
  const std::lock_guard lock(read_mutex_);
  Result<MDB_txn*> txn = traces_reader_->begin();
  if (!txn) return txn.status();
  const ReadScope scope(traces_reader_.get());
  Result<State> state = load_state(*txn);
  if (!state) return state.status();
  Result<CursorPtr> cursor = open_cursor(*txn);
  if (!cursor) return cursor.status();
  const Key first = make_key(1, 0);
  MDB_val key = as_val(first);
  MDB_val value{};
  const int code = mdb_cursor_get(cursor->get(), &key, &value, MDB_SET_RANGE);
  if (code != 0 && code != MDB_NOTFOUND) return traces_->error("read", code);
  const Result<RecordHead> oldest = code == 0 ? decode_head(as_bytes(value)) : RecordHead{};
  return TraceBufferStats{.records = state->records,
                          .bytes = state->bytes,
                          .first_sequence = code == 0 ? key_sequence(key) : 0,
                          .last_sequence = state->next_sequence - 1,
                          .oldest_ms = oldest ? oldest->created_ms : 0,
                          .dropped_oldest = dropped_oldest_,
                          .expired = expired_,
                          .corrupt = corrupt_};
}

}  // namespace

Result<std::unique_ptr<TraceBuffer>> open_lmdb_buffer(const TraceBufferOptions& options) {
  return LmdbBuffer::open(options);
}

}  // namespace aurora
