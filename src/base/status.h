// Status and Result<T>: how a failure that is the world's fault travels as a value (docs: style.md,
// "Errors"). Both are [[nodiscard]]. Cheap to move; a Status that is ok() holds no allocation.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace aurora {

enum class StatusCode {
  kOk,
  kInvalid,    // the caller or the user gave something that cannot work: says what to do
  kTruncated,  // bytes end too early
  kCorrupt,    // bytes are all there and wrong (checksum, magic, impossible value)
  kNotFound,
  kExists,
  kFull,         // a bound was reached (queue, buffer, disk)
  kIo,           // the operating system refused
  kUnavailable,  // the other side is away; a later try may work
  kInternal,     // a foreign exception, caught at its seam
};

const char* status_code_name(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status ok() { return {}; }
  static Status invalid(std::string m) { return {StatusCode::kInvalid, std::move(m)}; }
  static Status truncated(std::string m) { return {StatusCode::kTruncated, std::move(m)}; }
  static Status corrupt(std::string m) { return {StatusCode::kCorrupt, std::move(m)}; }
  static Status not_found(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
  static Status exists(std::string m) { return {StatusCode::kExists, std::move(m)}; }
  static Status full(std::string m) { return {StatusCode::kFull, std::move(m)}; }
  static Status io(std::string m) { return {StatusCode::kIo, std::move(m)}; }
  static Status unavailable(std::string m) { return {StatusCode::kUnavailable, std::move(m)}; }
  static Status internal(std::string m) { return {StatusCode::kInternal, std::move(m)}; }

  bool is_ok() const { return code_ == StatusCode::kOk; }
  explicit operator bool() const { return is_ok(); }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  std::string to_string() const;  // "corrupt: record crc"

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) { CHECK(!status_.is_ok()); }

  bool is_ok() const { return value_.has_value(); }
  explicit operator bool() const { return is_ok(); }
  const Status& status() const { return status_; }
  T& value() {
    CHECK(value_.has_value());
    return *value_;
  }
  const T& value() const {
    CHECK(value_.has_value());
    return *value_;
  }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace aurora
