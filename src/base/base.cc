#include <cstdlib>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"

namespace aurora {

const char* status_code_name(StatusCode code) {
  switch (code) {
    case StatusCode::kOk: return "ok";
    case StatusCode::kInvalid: return "invalid";
    case StatusCode::kTruncated: return "truncated";
    case StatusCode::kCorrupt: return "corrupt";
    case StatusCode::kNotFound: return "not found";
    case StatusCode::kExists: return "exists";
    case StatusCode::kFull: return "full";
    case StatusCode::kIo: return "io";
    case StatusCode::kUnavailable: return "unavailable";
    case StatusCode::kInternal: return "internal";
  }
  return "unknown";
}

std::string Status::to_string() const {
  if (is_ok()) return "ok";
  return std::string(status_code_name(code_)) + ": " + message_;
}

void check_failed(const char* file, int line, const char* condition) {
  LOG_ERROR("check", "%s:%d: CHECK(%s) failed", file, line, condition);
  flush_log();
  std::abort();
}

}  // namespace aurora
