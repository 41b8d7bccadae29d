// Takes finished requests off the decode thread: a bounded queue, one thread, one TraceBuffer.
// Full: drop and count.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "metrics/aurora_metrics.h"
#include "speculator/slot_trace.h"
#include "trace/trace_buffer.h"

namespace aurora {

struct FinishedRequest {
  SlotTrace trace;
  std::vector<KeptRowPtr> rows;
};

struct TraceWriterOptions {
  std::string target;  // fingerprint
  int32_t hidden = 0;
  int32_t tap_layers[kTapCount] = {0, 0, 0};
  int64_t expires_in_s = 0;  // default of a record, 0: never
  size_t queue_max = 64;
};

class TraceWriter {
 public:
  TraceWriter(std::unique_ptr<TraceBuffer> buffer, const TraceWriterOptions& options,
              ServeMetrics& metrics);
  ~TraceWriter();  // writes what is queued

  // Decode thread. Never blocks, never allocates more than the queue's node.
  void offer(FinishedRequest request);

 private:
  void run();
  void write(const FinishedRequest& request);
  void count_late_drops();

  const std::unique_ptr<TraceBuffer> buffer_;
  const TraceWriterOptions options_;
  ServeMetrics& metrics_;
  uint64_t next_id_;         // writer's thread
  uint64_t late_drops_ = 0;  // writer's thread; of those that the metrics know
  BoundedQueue<FinishedRequest> queue_;
  std::thread thread_;
};

}  // namespace aurora
