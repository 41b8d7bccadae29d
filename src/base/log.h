// One line to stderr: "2026-11-24T07:50:01.123Z aurora.trace W message". Thread-safe, and nobody
// waits: one thread writes (line_writer.h), and where stderr takes nothing lines are dropped and
// counted. What is still to be written at exit, in a CHECK that fails and before exec has a second.
#pragma once

#include <cstdint>
#include <string_view>

namespace aurora {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

// Lines below this level are dropped. Default kInfo; AURORA_LOG=debug|info|warn|error sets it at
// first use.
void set_log_level(LogLevel level);

// component: "trace", "registry", "speculator", "train", "cli". fmt as printf. Lines are cut at 2
// KiB.
__attribute__((format(printf, 3, 4))) void log_line(LogLevel level, const char* component,
                                                    const char* fmt, ...);

// A line as it is: of a child's log, say.
void log_verbatim(std::string_view line);

uint64_t dropped_log_lines();
// For whoever ends without exit(), or writes to stderr himself. A second at most.
void flush_log();

}  // namespace aurora

#define LOG_DEBUG(component, ...) \
  ::aurora::log_line(::aurora::LogLevel::kDebug, component, __VA_ARGS__)
#define LOG_INFO(component, ...) \
  ::aurora::log_line(::aurora::LogLevel::kInfo, component, __VA_ARGS__)
#define LOG_WARN(component, ...) \
  ::aurora::log_line(::aurora::LogLevel::kWarn, component, __VA_ARGS__)
#define LOG_ERROR(component, ...) \
  ::aurora::log_line(::aurora::LogLevel::kError, component, __VA_ARGS__)
