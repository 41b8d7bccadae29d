#include "speculator/trace_writer.h"

#include <algorithm>
#include <exception>
#include <random>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace aurora {
namespace {

constexpr int64_t kMeasureUs = 2'000'000;
constexpr int64_t kExpirySweepUs = 60'000'000;  // by the clock that nobody sets

TraceDrop drop_of(StatusCode refused) {
  if (refused == StatusCode::kFull) return TraceDrop::kBufferFull;
  if (refused == StatusCode::kUnavailable) return TraceDrop::kBufferAway;
  return TraceDrop::kBufferIo;
}

}  // namespace

int64_t expires_at_ms(int64_t created_ms, int64_t asked_s, int64_t allowed_s) {
  constexpr int64_t kSecondsMax = 100ll * 366 * 24 * 3600;  // so that no sum overflows
  int64_t seconds = asked_s > 0 ? std::min(asked_s, kSecondsMax) : 0;
  if (allowed_s > 0 && (seconds == 0 || seconds > allowed_s)) seconds = allowed_s;
  return seconds > 0 ? created_ms + std::min(seconds, kSecondsMax) * 1000 : 0;
}

TraceWriter::TraceWriter(std::unique_ptr<TraceBuffer> buffer, const TraceWriterOptions& options,
                         ServeMetrics& metrics, BeginAnew begin_anew)
    : buffer_(std::move(buffer)),
      record_bytes_max_(buffer_->record_bytes_max()),
      begin_anew_(std::move(begin_anew)),
      options_(options),
      metrics_(metrics),
      next_id_(static_cast<uint64_t>(std::random_device{}()) << 32),
      queue_(options.queue_max),
      thread_([this] { run(); }) {}

TraceWriter::~TraceWriter() {
  queue_.close();
  thread_.join();
}

void TraceWriter::offer(SlotTrace trace, const std::vector<KeptRowPtr>& rows) {
  const uint64_t bytes = trace.record_bytes(options_.hidden);
  if (bytes > record_bytes_max_) {
    metrics_.traces_dropped(TraceDrop::kBufferFull).add();
    return;
  }
  const uint64_t queued = queued_bytes_.load(std::memory_order_relaxed);
  if (queued > 0 && queued + bytes > options_.queue_bytes_max) {
    metrics_.traces_dropped(TraceDrop::kQueueFull).add();
    return;
  }
  Finished finished;
  finished.bytes = bytes;
  const size_t count = std::min(rows.size(), trace.rows());
  finished.rows.assign(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(count));
  finished.trace = std::move(trace);
  queued_bytes_ += bytes;
  if (!queue_.try_push(std::move(finished))) {
    queued_bytes_ -= bytes;
    metrics_.traces_dropped(TraceDrop::kQueueFull).add();
  }
}

void TraceWriter::run() {
  while (true) {
    auto request = queue_.pop(std::chrono::milliseconds(1000));
    metrics_.trace_queue_depth.set(static_cast<double>(queue_.size()));
    if (request) {
      write_guarded(*request);
      queued_bytes_ -= request->bytes;
    }
    if (buffer_) tend();
    if (!request && queue_.closed()) return;
  }
}

// What the buffer wants beside records.
void TraceWriter::tend() {
  try {
    count_late_drops();
    const int64_t now_us = steady_us();
    if (now_us >= sweep_us_) {
      sweep_us_ = now_us + kExpirySweepUs;
      remove_expired();
    }
    if (now_us >= measure_us_) {
      measure_us_ = now_us + kMeasureUs;
      measure_buffer();
    }
    if (damage_.code() == StatusCode::kCorrupt && begin_anew_) begin_anew();
  } catch (const std::exception& e) {
    metrics_.speculator_errors.add();
    LOG_WARN("trace", "the trace buffer is left alone for now: %s", e.what());
  }
}

void TraceWriter::begin_anew() {
  buffer_.reset();
  auto anew = begin_anew_(damage_);
  if (anew) buffer_ = std::move(*anew);
  else LOG_ERROR("trace", "serving goes on without capture: %s", anew.status().to_string().c_str());
  damage_ = Status::ok();
}

void TraceWriter::measure_buffer() {
  if (options_.bytes_max == 0) return;
  const auto stats = buffer_->stats();
  if (!stats) {
    damage_ = stats.status();
    return;
  }
  const int64_t age_ms = stats->oldest_ms > 0 ? unix_ms() - stats->oldest_ms : 0;
  metrics_.trace_buffer_bytes.set(static_cast<double>(stats->bytes));
  metrics_.trace_buffer_bytes_max.set(static_cast<double>(options_.bytes_max));
  metrics_.trace_buffer_records.set(static_cast<double>(stats->records));
  metrics_.trace_oldest_age_s.set(static_cast<double>(std::max<int64_t>(0, age_ms)) / 1000);
  metrics_.traces_removed_full.set(static_cast<double>(stats->dropped_oldest));
  metrics_.traces_removed_expired.set(static_cast<double>(stats->expired));
}

void TraceWriter::remove_expired() {
  const Status status = buffer_->remove_expired(unix_ms());
  if (status) return;
  damage_ = status;
  LOG_WARN("trace", "expired records stay: %s", status.to_string().c_str());
}

// Memory that is short costs a trace, not the server.
void TraceWriter::write_guarded(const Finished& request) {
  try {
    write(request);
  } catch (const std::exception& e) {
    metrics_.speculator_errors.add();
    metrics_.traces_dropped(TraceDrop::kBufferIo).add();
    LOG_WARN("trace", "a trace was dropped: %s", e.what());
  }
}

void TraceWriter::write(const Finished& request) {
  TraceRecord head;
  head.id = next_id_++;
  head.created_ms = unix_ms();
  head.expires_ms = expires_at_ms(head.created_ms, request.trace.request().labels.expires_in_s,
                                  options_.expires_in_s);
  head.rollout_of = request.trace.request().labels.rollout_of;
  head.target = options_.target;
  head.hidden = options_.hidden;
  std::copy_n(options_.tap_layers, kTapCount, head.tap_layers);
  const TraceRecord record = request.trace.to_record(request.rows, std::move(head));
  if (Status status = validate(record); !status) {
    LOG_ERROR("trace", "a request made a record that is not valid, dropped: %s",
              status.to_string().c_str());
    metrics_.speculator_errors.add();
    metrics_.traces_dropped(TraceDrop::kNoRows).add();
    return;
  }
  const auto appended =
      buffer_ ? buffer_->append(record) : Result<uint64_t>(Status::io("there is no trace buffer"));
  if (appended) {
    metrics_.traces_written.add();
    return;
  }
  damage_ = appended.status();
  metrics_.traces_dropped(drop_of(appended.status().code())).add();
  LOG_WARN("trace", "a trace was dropped: %s", appended.status().to_string().c_str());
}

// Counted as written when the buffer took them.
void TraceWriter::count_late_drops() {
  const uint64_t now = buffer_->dropped_later();
  metrics_.traces_dropped(TraceDrop::kBufferAway).add(now - late_drops_);
  late_drops_ = now;
}

}  // namespace aurora
