// Picks the engine, and says what is missing in a build without a NATS library.
#include "nats/nats_url.h"
#include "trace/trace_buffer.h"

namespace aurora {

namespace {

Status library_missing() {
  return Status::invalid(
      "this build has no NATS client: install libnats-dev and build again, or leave --buffer out");
}

}  // namespace

#if !AURORA_NATS
Result<std::unique_ptr<TraceBuffer>> open_jetstream_buffer(const NatsUrl&,
                                                           const TraceBufferOptions&) {
  return library_missing();
}
#endif

Status check_buffer_url(const std::string& url) {
  if (url.empty()) return Status::ok();
  const Result<NatsUrl> parsed = parse_nats_url(url);
  if (!parsed) return parsed.status();
  return AURORA_NATS ? Status::ok() : library_missing();
}

Result<std::unique_ptr<TraceBuffer>> open_trace_buffer(const std::string& url,
                                                       const TraceBufferOptions& options) {
  if (url.empty()) return open_lmdb_buffer(options);
  const Result<NatsUrl> parsed = parse_nats_url(url);
  if (!parsed) return parsed.status();
  return open_jetstream_buffer(*parsed, options);
}

}  // namespace aurora
