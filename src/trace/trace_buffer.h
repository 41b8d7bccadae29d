// The trace buffer: servers append, trainers read, in order, each at its own cursor. One interface,
// two engines (LMDB on one host; JetStream over many), one contract test suite:
// tests/trace/trace_buffer_contract.h. Where they differ the comments name the engine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "trace/record.h"

namespace aurora {

struct NatsUrl;

struct TraceBufferOptions {
  std::string dir;                  // LMDB: created 0700; files 0600
  uint64_t bytes_max = 2ull << 30;  // drop oldest beyond
  enum class Role { kWriter, kReader } role = Role::kWriter;
};

// A record as the buffer knows it. Sequence numbers rise by at least one (JetStream: by one for
// each message of a record), start at 1, are never used again.
struct StoredRecord {
  uint64_t sequence = 0;
  TraceRecord record;
};

struct TraceBufferStats {
  uint64_t records = 0;
  uint64_t bytes = 0;           // of records held; JetStream: with the broker's own of each message
  uint64_t first_sequence = 0;  // none is before it; 0: empty
  uint64_t last_sequence = 0;   // the last ever given, also when that record is gone; 0: none yet
  int64_t oldest_ms = 0;        // when the first one was made; 0: empty, or JetStream
  uint64_t dropped_oldest = 0;  // by the bound, since open; JetStream: 0, the broker drops
  uint64_t expired = 0;         // removed, since open; JetStream: 0, the broker removes
  uint64_t corrupt = 0;         // skipped by this object's read(), since open; each counted once
};

// Thread-safe. Any number of readers, in other processes too; LMDB: one writer process at a time
// (Role::kWriter), JetStream: any number. No call of a reader, dead or stopped at any instruction,
// makes append() wait. LMDB: a reader stopped inside read() keeps old records' space from being
// used again: appends go on into a reserve of another bytes_max, and only when that is used up give
// kFull, until it goes on or dies.
class TraceBuffer {
 public:
  virtual ~TraceBuffer() = default;

  // Writer. Oldest records are dropped to stay within bytes_max; kFull when the record alone is
  // larger; kInvalid when validate() says no. The caller counts a failure and goes on.
  // LMDB: the record's sequence; durable against a process kill when it returns (not against power
  // loss); kIo when the disk refuses.
  // JetStream: never waits for a broker; 0, the record is on its way, flush() waits for it;
  // kUnavailable when too much is on its way already. A broker may still refuse: dropped_later().
  virtual Result<uint64_t> append(const TraceRecord& record) = 0;
  // A longer one is kFull, whatever else is there.
  virtual uint64_t record_bytes_max() const { return kRecordBytesMax; }

  // Until all that was appended is where append() promises, at most so long; else kUnavailable.
  virtual Status flush(int64_t) { return Status::ok(); }
  // Records that append() took and that were never stored, since open. No wait.
  virtual uint64_t dropped_later() const { return 0; }

  // Records with sequence > after, in order, at most `count` and at most about `bytes_max` bytes
  // (at least one record when any is there). Expired records and records of a broken checksum are
  // skipped (the latter counted and logged). Copies out: no transaction outlives the call.
  // JetStream: kUnavailable when no broker answers; a replica that lags shows less.
  virtual Result<std::vector<StoredRecord>> read(uint64_t after, size_t count,
                                                 size_t bytes_max) = 0;

  // How many records are there with a greater sequence: a reader's lag behind its cursor.
  // JetStream: as read() found it where one ended at `after` within 5 s, without another request;
  // expired records that the broker still holds are counted.
  virtual Result<uint64_t> records_after(uint64_t after) {
    const Result<TraceBufferStats> now = stats();
    if (!now) return now.status();
    return now->last_sequence - std::min(after, now->last_sequence);
  }

  // Writer only. JetStream: does nothing, the broker removes each record at its time.
  virtual Status remove_expired(int64_t now_ms) = 0;
  virtual Result<TraceBufferStats> stats() = 0;
};

// LMDB: `dir/traces`, written by the server alone: LMDB has one writer lock across processes, and a
// stopped holder would stop the server. Stale readers are cleared at open. A foreign or broken file
// gives a Status that names it; nothing is deleted. kUnavailable: a second writer, or a process
// stopped while opening held the directory for five seconds.
Result<std::unique_ptr<TraceBuffer>> open_lmdb_buffer(const TraceBufferOptions& options);

// NATS JetStream: the stream PREFIX_traces of a cluster. Returns at once, whether
// a broker answers or not. The URL's bytes_max goes before the options'. invalid: a file of the URL
// is unusable, or this build has no NATS client.
Result<std::unique_ptr<TraceBuffer>> open_jetstream_buffer(const NatsUrl& url,
                                                           const TraceBufferOptions& options);

// Without opening anything: whether open_trace_buffer() could take this value of --buffer.
Status check_buffer_url(const std::string& url);

// The value of --buffer: empty is LMDB, nats://... JetStream. invalid: a URL that cannot work.
Result<std::unique_ptr<TraceBuffer>> open_trace_buffer(const std::string& url,
                                                       const TraceBufferOptions& options);

}  // namespace aurora
