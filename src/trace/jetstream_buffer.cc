// Traces on NATS JetStream: many servers append to one stream, trainers read it by sequence. Why no
// consumer of the broker's: docs/decisions.md.
#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <optional>

#include "base/clock.h"
#include "base/log.h"
#include "nats/connection.h"
#include "nats/jetstream.h"
#include "nats/preface.h"
#include "trace/jetstream_names.h"
#include "trace/jetstream_publisher.h"
#include "trace/trace_buffer.h"

namespace aurora {
namespace {

constexpr int64_t kConnectWaitMs = 2000;
constexpr size_t kFetchCountMax = 256;
constexpr int64_t kLaterUsMax = 5'000'000;  // then the broker is asked anew

class JetStreamBuffer final : public TraceBuffer {
 public:
  JetStreamBuffer(std::unique_ptr<NatsConnection> connection, const TraceBufferOptions& options)
      : options_(options), connection_(std::move(connection)) {
    if (options_.role == TraceBufferOptions::Role::kWriter) {
      publisher_ = std::make_unique<JetStreamPublisher>(*connection_, [this] { return prepare(); });
    }
  }

  Result<uint64_t> append(const TraceRecord& record) override;
  Result<std::vector<StoredRecord>> read(uint64_t after, size_t count, size_t bytes_max) override;
  Result<uint64_t> records_after(uint64_t after) override;
  uint64_t record_bytes_max() const override {
    return std::min(options_.bytes_max, kRecordBytesMax);
  }
  Status remove_expired(int64_t now_ms) override;
  Result<TraceBufferStats> stats() override;
  Status flush(int64_t wait_ms) override;
  uint64_t dropped_later() const override { return publisher_ ? publisher_->refused() : 0; }

 private:
  struct Later {
    uint64_t after = 0;    // where a read() ended
    uint64_t records = 0;  // behind it
    int64_t at_us = 0;
  };

  const std::string& prefix() const { return connection_->url().prefix; }
  Status prepare();
  Status reach();
  Result<std::vector<std::byte>> assemble(const Preface& preface, std::span<const std::byte> rest);
  void note_corrupt(uint64_t sequence, const Status& why);
  Result<std::vector<StoredRecord>> read_noting(uint64_t after, size_t count, size_t bytes_max,
                                                uint64_t& later);

  const TraceBufferOptions options_;
  const std::unique_ptr<NatsConnection> connection_;
  std::mutex later_mutex_;
  std::optional<Later> later_;  // guarded by later_mutex_
  std::atomic<bool> prepared_{false};
  std::atomic<uint64_t> corrupt_{0};
  std::atomic<uint64_t> corrupt_sequence_max_{0};
  std::unique_ptr<JetStreamPublisher> publisher_;  // of a writer; last: its thread uses the others
};

// A reader makes what is missing and leaves the bounds of what is there to the servers.
Status JetStreamBuffer::prepare() {
  const NatsUrl& url = connection_->url();
  const StreamConfig traces{.name = traces_stream(prefix()),
                            .subjects = prefix() + ".traces.*",
                            .bytes_max = options_.bytes_max,
                            .age_s = url.age_s,
                            .replicas = url.replicas};
  const bool adjust = options_.role == TraceBufferOptions::Role::kWriter;
  return ensure_stream(*connection_, traces, adjust);
}

// For calls that need an answer: connected, and the stream there.
Status JetStreamBuffer::reach() {
  if (Status status = connection_->wait_connected(kConnectWaitMs); !status) return status;
  if (prepared_) return Status::ok();
  if (Status status = prepare(); !status) return status;
  prepared_ = true;
  return Status::ok();
}

Result<uint64_t> JetStreamBuffer::append(const TraceRecord& record) {
  if (!publisher_) return Status::invalid("append on a trace buffer opened for reading");
  if (Status status = validate(record); !status) return Status::invalid(status.message());
  Result<std::vector<std::byte>> bytes = encode(record, record_bytes_max());
  if (!bytes)
    return Status(bytes.status().code(), traces_stream(prefix()) + ": " + bytes.status().message());
  if (Status s = publisher_->offer(record.id, record.expires_ms, std::move(*bytes)); !s) return s;
  return uint64_t{0};
}

Status JetStreamBuffer::flush(int64_t wait_ms) {
  return publisher_ ? publisher_->flush(wait_ms) : Status::ok();
}

Result<std::vector<StoredRecord>> JetStreamBuffer::read(uint64_t after, size_t count,
                                                        size_t bytes_max) {
  uint64_t later = 0;
  auto records = read_noting(after, count, bytes_max, later);
  const std::lock_guard lock(later_mutex_);
  later_.reset();
  if (records && count > 0) {
    later_ = Later{records->empty() ? after : records->back().sequence, later, steady_us()};
  }
  return records;
}

// An empty answer means the end: messages that hold no record are passed over. `later`: messages
// behind the last one that was looked at.
Result<std::vector<StoredRecord>> JetStreamBuffer::read_noting(uint64_t after, size_t count,
                                                               size_t bytes_max, uint64_t& later) {
  std::vector<StoredRecord> records;
  if (count == 0 || after == std::numeric_limits<uint64_t>::max()) return records;
  if (Status status = reach(); !status) return status;
  size_t bytes = 0;
  while (records.empty()) {
    auto batch = fetch(*connection_, {.stream = traces_stream(prefix()),
                                      .subject = record_subject(prefix()),
                                      .first = after + 1,
                                      .count = std::min(count, kFetchCountMax),
                                      .bytes_max = bytes_max});
    if (!batch) {
      prepared_ = false;  // somebody may have deleted the stream
      return batch.status();
    }
    if (batch->empty()) {
      later = 0;
      return records;
    }
    for (const StoredMessage& stored : *batch) {
      std::span<const std::byte> rest = stored.message.data();
      const Result<Preface> preface = take_preface(rest);
      if (preface && !records.empty() && bytes + preface->bytes > bytes_max) return records;
      after = stored.sequence;
      if (preface && preface->expires_ms != 0 && preface->expires_ms <= unix_ms()) {
        later = stored.later;
        continue;
      }
      Result<std::vector<std::byte>> whole = preface ? assemble(*preface, rest) : preface.status();
      if (!whole && whole.status().code() == StatusCode::kUnavailable) {
        if (records.empty()) return whole.status();
        return records;
      }
      later = stored.later;
      if (!whole && whole.status().code() == StatusCode::kNotFound) continue;
      Result<TraceRecord> record = whole ? decode(*whole) : whole.status();
      if (record) {
        bytes += whole->size();
        records.push_back({stored.sequence, std::move(*record)});
      } else {
        note_corrupt(stored.sequence, record.status());
      }
    }
  }
  return records;
}

// not_found: the oldest pieces were dropped already, and the record with them.
Result<std::vector<std::byte>> JetStreamBuffer::assemble(const Preface& preface,
                                                         std::span<const std::byte> rest) {
  std::vector<std::byte> whole;
  if (!preface.pieces.empty()) {
    auto pieces = fetch_each(*connection_, traces_stream(prefix()), preface.pieces);
    if (!pieces) return pieces.status();
    if (pieces->size() < preface.pieces.size()) return Status::not_found("pieces of a record");
    std::sort(pieces->begin(), pieces->end(), [](const StoredMessage& a, const StoredMessage& b) {
      return a.sequence < b.sequence;
    });
    for (const uint64_t sequence : preface.pieces) {
      const auto at = std::lower_bound(
          pieces->begin(), pieces->end(), sequence,
          [](const StoredMessage& m, uint64_t wanted) { return m.sequence < wanted; });
      if (at == pieces->end() || at->sequence != sequence) return Status::not_found("a piece");
      const std::span<const std::byte> data = at->message.data();
      whole.insert(whole.end(), data.begin(), data.end());
    }
  }
  whole.insert(whole.end(), rest.begin(), rest.end());
  return whole;
}

void JetStreamBuffer::note_corrupt(uint64_t sequence, const Status& why) {
  uint64_t seen = corrupt_sequence_max_.load();
  while (seen < sequence && !corrupt_sequence_max_.compare_exchange_weak(seen, sequence)) {
  }
  if (seen >= sequence) return;
  ++corrupt_;
  LOG_WARN("trace", "%s: record %llu skipped: %s", traces_stream(prefix()).c_str(),
           static_cast<unsigned long long>(sequence), why.to_string().c_str());
}

// Sequences count pieces as well; the broker counts messages of one subject.
Result<uint64_t> JetStreamBuffer::records_after(uint64_t after) {
  {
    const std::lock_guard lock(later_mutex_);
    if (later_ && later_->after == after && steady_us() - later_->at_us < kLaterUsMax)
      return later_->records;
  }
  if (after == std::numeric_limits<uint64_t>::max()) return uint64_t{0};
  if (Status status = reach(); !status) return status;
  const auto next = fetch(*connection_, {.stream = traces_stream(prefix()),
                                         .subject = record_subject(prefix()),
                                         .first = after + 1,
                                         .count = 1,
                                         .bytes_max = 1});
  if (!next) return next.status();
  return next->empty() ? 0 : 1 + next->front().later;
}

// The broker removes each message at the end of its own lifetime.
Status JetStreamBuffer::remove_expired(int64_t) {
  return publisher_ ? Status::ok() : Status::invalid("only the writer removes records");
}

Result<TraceBufferStats> JetStreamBuffer::stats() {
  if (Status status = reach(); !status) return status;
  const auto state = stream_state(*connection_, traces_stream(prefix()), record_subject(prefix()));
  if (!state) return state.status();
  TraceBufferStats stats;
  stats.records = state->messages;
  stats.bytes = state->bytes;
  stats.first_sequence = state->messages == 0 ? 0 : state->first_sequence;
  stats.last_sequence = state->last_sequence;
  stats.corrupt = corrupt_;
  return stats;
}

}  // namespace

Result<std::unique_ptr<TraceBuffer>> open_jetstream_buffer(const NatsUrl& url,
                                                           const TraceBufferOptions& options) {
  TraceBufferOptions bounded = options;
  if (url.bytes_max > 0) bounded.bytes_max = url.bytes_max;
  if (bounded.bytes_max == 0) return Status::invalid("a trace buffer of 0 bytes");
  const bool writes = options.role == TraceBufferOptions::Role::kWriter;
  auto connection = NatsConnection::open(url, writes ? "aurora-serve" : "aurora-train");
  if (!connection) return connection.status();
  return std::unique_ptr<TraceBuffer>(
      std::make_unique<JetStreamBuffer>(std::move(*connection), bounded));
}

}  // namespace aurora
