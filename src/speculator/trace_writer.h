// Takes finished requests off the decode thread: a queue bounded in requests and bytes, one thread,
// one TraceBuffer. Full: drop and count. Removes what has expired, also where nothing is offered,
// and says how full the buffer is. A buffer that turns out to be damaged is given up for a new one.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "metrics/aurora_metrics.h"
#include "speculator/slot_trace.h"
#include "trace/trace_buffer.h"

namespace aurora {

struct TraceWriterOptions {
  std::string target;  // fingerprint
  int32_t hidden = 0;
  int32_t tap_layers[kTapCount] = {0, 0, 0};
  // Of a buffer on this machine. 0: it is on brokers, who would have to be asked how full it is.
  uint64_t bytes_max = 0;
  int64_t expires_in_s = 0;  // of a record at most, 0: for ever; a request may ask for less
  size_t queue_max = 64;
  uint64_t queue_bytes_max = 256ull << 20;  // waiting and being written; one request always may
};

// Unix ms at which a record that was made then expires, 0: never. Both bounds in seconds, 0: none;
// asked: by the request, any number.
int64_t expires_at_ms(int64_t created_ms, int64_t asked_s, int64_t allowed_s);

class TraceWriter {
 public:
  // A new buffer in place of one that is damaged, which is closed by then. Writer's thread.
  using BeginAnew = std::function<Result<std::unique_ptr<TraceBuffer>>(const Status& why)>;

  TraceWriter(std::unique_ptr<TraceBuffer> buffer, const TraceWriterOptions& options,
              ServeMetrics& metrics, BeginAnew begin_anew = nullptr);
  ~TraceWriter();  // writes what is queued

  // Decode thread. Never blocks. Takes the trace and the rows' pointers, or drops the request by
  // arithmetic and copies nothing. rows: of the slot, those behind the request's are left out.
  void offer(SlotTrace trace, const std::vector<KeptRowPtr>& rows);

 private:
  struct Finished {
    SlotTrace trace;
    std::vector<KeptRowPtr> rows;
    uint64_t bytes = 0;
  };

  void run();
  void write_guarded(const Finished& request);
  void write(const Finished& request);
  void tend();
  void remove_expired();
  void measure_buffer();
  void begin_anew();
  void count_late_drops();

  std::unique_ptr<TraceBuffer> buffer_;  // writer's thread; null: damaged, and no new one came
  const uint64_t record_bytes_max_;
  const BeginAnew begin_anew_;
  const TraceWriterOptions options_;
  ServeMetrics& metrics_;
  uint64_t next_id_;                       // writer's thread
  uint64_t late_drops_ = 0;                // writer's thread; of those that the metrics know
  Status damage_;                          // writer's thread; what the buffer has said of itself
  int64_t sweep_us_ = 0, measure_us_ = 0;  // writer's thread; when they are due
  std::atomic<uint64_t> queued_bytes_{0};
  BoundedQueue<Finished> queue_;
  std::thread thread_;
};

}  // namespace aurora
