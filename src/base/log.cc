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
#include <exception>
#include <memory>

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

// Null: there is no memory for its thread, and the last words of such a process are said all the
// same.
std::unique_ptr<LineWriter> writer_of_stderr() {
  try {
    return std::make_unique<LineWriter>(STDERR_FILENO);
  } catch (const std::exception&) {
    return nullptr;
  }
}

// Of stderr, and never destroyed: threads log until the process is gone.
struct Stderr {
  const std::unique_ptr<LineWriter> writer = writer_of_stderr();
  const pid_t owner = ::getpid();

  // A child of fork() has the ring and not the thread.
  bool runs() const { return writer != nullptr && ::getpid() == owner; }
};

Stderr& to_stderr() {
  static Stderr* const one = [] {
    auto* made = new Stderr;
    std::atexit(flush_log);
    return made;
  }();
  return *one;
}

void put(std::string_view line) {
  const Stderr& out = to_stderr();
  if (out.runs()) {
    out.writer->offer(line);
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

uint64_t dropped_log_lines() {
  const Stderr& out = to_stderr();
  return out.writer ? out.writer->dropped() : 0;
}

void flush_log() {
  const Stderr& out = to_stderr();
  if (out.runs()) (void)out.writer->flush(kFlush);
}

}  // namespace aurora
