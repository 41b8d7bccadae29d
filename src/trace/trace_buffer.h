// The trace buffer: servers append, trainers read, in order, each at its own cursor. One interface,
// several engines (LMDB on one host; JetStream over many), one contract test suite:
// tests/trace/trace_buffer_contract.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "trace/record.h"

namespace aurora {

struct TraceBufferOptions {
  std::string dir;                  // created 0700; files 0600
  uint64_t bytes_max = 2ull << 30;  // drop oldest beyond
  enum class Role { kWriter, kReader } role = Role::kWriter;
};

// A record as the buffer knows it. Sequence numbers rise by at least one, start at 1, are never
// used again.
struct StoredRecord {
  uint64_t sequence = 0;
  TraceRecord record;
};

struct TraceBufferStats {
  uint64_t records = 0;
  uint64_t bytes = 0;           // of records held
  uint64_t first_sequence = 0;  // 0: empty
  uint64_t last_sequence = 0;   // the last ever given, also when that record is gone; 0: none yet
  uint64_t dropped_oldest = 0;  // by the bound, since open
  uint64_t expired = 0;         // removed, since open
  uint64_t corrupt = 0;         // skipped by this object's read(), since open; each counted once
};

// Thread-safe. One writer process at a time (Role::kWriter); any number of readers, in other
// processes too. No call of a reader, dead or stopped at any instruction, makes append() wait. A
// reader stopped inside read() keeps old records' space from being used again: appends go on into a
// reserve of another bytes_max, and only when that is used up give kFull, until it goes on or dies.
class TraceBuffer {
 public:
  virtual ~TraceBuffer() = default;

  // Writer. Durable against a process kill when it returns (not against power loss). Drops oldest
  // records to stay within bytes_max; kFull when the record alone is larger; kInvalid when
  // validate() says no; kIo when the disk refuses (the caller counts, goes on).
  virtual Result<uint64_t> append(const TraceRecord& record) = 0;

  // Records with sequence > after, in order, at most `count` and at most about `bytes_max` bytes
  // (at least one record when any is there). Expired records and records of a broken checksum are
  // skipped (the latter counted and logged). Copies out: no transaction outlives the call.
  virtual Result<std::vector<StoredRecord>> read(uint64_t after, size_t count,
                                                 size_t bytes_max) = 0;

  // Consumer cursor: everything <= sequence is in a checkpoint of that consumer. Monotone: a lower
  // one is ignored.
  virtual Status acknowledge(const std::string& consumer, uint64_t sequence) = 0;
  virtual Result<uint64_t> acknowledged(const std::string& consumer) = 0;  // 0 when unknown

  virtual Status remove_expired(int64_t now_ms) = 0;  // writer only
  virtual Result<TraceBufferStats> stats() = 0;
};

// LMDB: `dir/traces` written by the server alone, `dir/acks` by trainers alone (LMDB has one writer
// lock across processes, and a stopped holder would stop the server). Stale readers are cleared at
// open. A foreign or broken file gives a Status that names it; nothing is deleted. kUnavailable: a
// second writer, or a process stopped while opening held the directory for five seconds.
Result<std::unique_ptr<TraceBuffer>> open_lmdb_buffer(const TraceBufferOptions& options);

}  // namespace aurora
