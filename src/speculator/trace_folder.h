// The folder of this machine's traces. What is damaged or not ours costs the traces that lay there,
// and not the server: the folder is kept beside, whole, for a person to look at.
#pragma once

#include <memory>

#include "metrics/aurora_metrics.h"
#include "trace/trace_buffer.h"

namespace aurora {

// As open_lmdb_buffer(), in a folder begun anew where the one that is there cannot be used.
Result<std::unique_ptr<TraceBuffer>> open_trace_folder(const TraceBufferOptions& options,
                                                       ServeMetrics& metrics);

// Renames options.dir to .bad, in place of the one before, and opens a new one. Nobody of this
// process may have it open.
Result<std::unique_ptr<TraceBuffer>> begin_trace_folder_anew(const TraceBufferOptions& options,
                                                             const Status& why,
                                                             ServeMetrics& metrics);

}  // namespace aurora
