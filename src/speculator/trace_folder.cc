#include "speculator/trace_folder.h"

#include <filesystem>
#include <string>

#include "base/log.h"

namespace aurora {

Result<std::unique_ptr<TraceBuffer>> open_trace_folder(const TraceBufferOptions& options,
                                                       ServeMetrics& metrics) {
  auto buffer = open_lmdb_buffer(options);
  const StatusCode code = buffer.status().code();
  if (code != StatusCode::kCorrupt && code != StatusCode::kInvalid) return buffer;
  return begin_trace_folder_anew(options, buffer.status(), metrics);
}

Result<std::unique_ptr<TraceBuffer>> begin_trace_folder_anew(const TraceBufferOptions& options,
                                                             const Status& why,
                                                             ServeMetrics& metrics) {
  const std::string aside = options.dir + ".bad";
  std::error_code failed;
  std::filesystem::remove_all(aside, failed);
  std::filesystem::rename(options.dir, aside, failed);
  if (failed) return Status::io(why.message() + "; " + failed.message());
  LOG_ERROR("speculator", "%s. Its folder is kept as %s, until the next one, and traces begin anew",
            why.message().c_str(), aside.c_str());
  metrics.traces_set_aside.add();
  return open_lmdb_buffer(options);
}

}  // namespace aurora
