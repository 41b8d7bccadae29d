#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"

namespace aurora {
namespace {

LogLevel level_from_environment() {
  const char* value = std::getenv("AURORA_LOG");
  if (value == nullptr) return LogLevel::kInfo;
  if (std::strcmp(value, "debug") == 0) return LogLevel::kDebug;
  if (std::strcmp(value, "warn") == 0) return LogLevel::kWarn;
  if (std::strcmp(value, "error") == 0) return LogLevel::kError;
  return LogLevel::kInfo;
}

std::atomic<LogLevel>& log_threshold() {
  static std::atomic<LogLevel> threshold{level_from_environment()};
  return threshold;
}

}  // namespace

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
  std::abort();
}

void set_log_level(LogLevel level) { log_threshold().store(level, std::memory_order_relaxed); }

void log_line(LogLevel level, const char* component, const char* fmt, ...) {
  if (level < log_threshold().load(std::memory_order_relaxed)) return;
  char line[2048];
  timeval now{};
  gettimeofday(&now, nullptr);
  tm utc{};
  gmtime_r(&now.tv_sec, &utc);
  size_t used = std::strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
  used += static_cast<size_t>(std::snprintf(line + used, sizeof line - used, ".%03dZ aurora.%s %c ",
                                            static_cast<int>(now.tv_usec / 1000), component,
                                            "DIWE"[static_cast<int>(level)]));
  va_list args;
  va_start(args, fmt);
  const int wrote = std::vsnprintf(line + used, sizeof line - used - 1, fmt, args);
  va_end(args);
  used = std::min(sizeof line - 2, used + static_cast<size_t>(std::max(wrote, 0)));
  line[used++] = '\n';
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line, used);
}

}  // namespace aurora
