// Names a target model by its file: server and trainer must agree on it, and traces and drafts
// carry it.
#pragma once

#include <string>

#include "base/status.h"

namespace aurora {
// First 16 hex digits of sha256(size, first MiB, last MiB). Reads 2 MiB, so it costs milliseconds
// on any model.
Result<std::string> file_fingerprint(const std::string& path);
}  // namespace aurora
