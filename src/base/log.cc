#include "base/log.h"

#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/line_writer.h"

namespace aurora {
namespace {

constexpr std::chrono::milliseconds kFlush(1000);

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

// Of stderr, and never destroyed: threads log until the process is gone.
struct Stderr {
  LineWriter writer{STDERR_FILENO};
  const pid_t owner = ::getpid();
};

Stderr& to_stderr() {
  static Stderr* const one = [] {
    auto* made = new Stderr;
    std::atexit(flush_log);
    return made;
  }();
  return *one;
}

// A child of fork() has the ring and not the thread.
void put(std::string_view line) {
  Stderr& out = to_stderr();
  if (::getpid() == out.owner) {
    out.writer.offer(line);
    return;
  }
  char text[LineWriter::kLineBytes];
  const size_t bytes = std::min(line.size(), sizeof text - 1);
  std::copy_n(line.data(), bytes, text);
  text[bytes] = '\n';
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text, bytes + 1);
}

}  // namespace

void set_log_level(LogLevel level) { log_threshold().store(level, std::memory_order_relaxed); }

void log_line(LogLevel level, const char* component, const char* fmt, ...) {
  if (level < log_threshold().load(std::memory_order_relaxed)) return;
  char line[LineWriter::kLineBytes];
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
  const int wrote = std::vsnprintf(line + used, sizeof line - used, fmt, args);
  va_end(args);
  put({line, std::min(sizeof line - 1, used + static_cast<size_t>(std::max(wrote, 0)))});
}

void log_verbatim(std::string_view line) { put(line); }

uint64_t dropped_log_lines() { return to_stderr().writer.dropped(); }

void flush_log() {
  const Stderr& out = to_stderr();
  if (::getpid() == out.owner) (void)out.writer.flush(kFlush);
}

}  // namespace aurora
