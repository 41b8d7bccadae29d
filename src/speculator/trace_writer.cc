#include "speculator/trace_writer.h"

#include <algorithm>
#include <random>

#include "base/clock.h"
#include "base/log.h"

namespace aurora {
namespace {

constexpr int64_t kExpirySweepMs = 60'000;

TraceDrop drop_of(StatusCode refused) {
  if (refused == StatusCode::kFull) return TraceDrop::kBufferFull;
  if (refused == StatusCode::kUnavailable) return TraceDrop::kBufferAway;
  return TraceDrop::kBufferIo;
}

}  // namespace

TraceWriter::TraceWriter(std::unique_ptr<TraceBuffer> buffer, const TraceWriterOptions& options,
                         ServeMetrics& metrics)
    : buffer_(std::move(buffer)),
      options_(options),
      metrics_(metrics),
      next_id_(static_cast<uint64_t>(std::random_device{}()) << 32),
      queue_(options.queue_max),
      thread_([this] { run(); }) {}

TraceWriter::~TraceWriter() {
  queue_.close();
  thread_.join();
}

void TraceWriter::offer(FinishedRequest request) {
  if (!queue_.try_push(std::move(request))) metrics_.traces_dropped(TraceDrop::kQueueFull).add();
}

void TraceWriter::run() {
  int64_t swept_ms = 0;
  while (true) {
    auto request = queue_.pop(std::chrono::milliseconds(1000));
    metrics_.trace_queue_depth.set(static_cast<double>(queue_.size()));
    if (request) write(*request);
    count_late_drops();
    if (!request && queue_.closed()) return;
    if (const int64_t now = unix_ms(); now - swept_ms > kExpirySweepMs) {
      swept_ms = now;
      if (Status status = buffer_->remove_expired(now); !status) {
        LOG_WARN("trace", "expired records stay: %s", status.to_string().c_str());
      }
    }
  }
}

void TraceWriter::write(const FinishedRequest& request) {
  TraceRecord head;
  head.id = next_id_++;
  head.created_ms = unix_ms();
  const int64_t asked = request.trace.request().labels.expires_in_s;
  const int64_t expires_in_s = asked > 0 ? asked : options_.expires_in_s;
  head.expires_ms = expires_in_s > 0 ? head.created_ms + expires_in_s * 1000 : 0;
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
  const auto appended = buffer_->append(record);
  if (appended) {
    metrics_.traces_written.add();
    return;
  }
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
