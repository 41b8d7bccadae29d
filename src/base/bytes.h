// Little-endian bytes: a writer that grows, and a reader that never passes its end. Not
// thread-safe.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace aurora {

// Numbers are copied as they lie in memory; a big-endian port would swap them here.
static_assert(std::endian::native == std::endian::little);

template <typename T>
concept Scalar = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

class ByteWriter {
 public:
  void reserve(size_t bytes) { bytes_.reserve(bytes); }
  template <Scalar T>
  void put(T value) {
    append(&value, sizeof value);
  }
  template <Scalar T>
  void put_span(std::span<const T> values) {
    append(values.data(), values.size_bytes());
  }
  void put_bytes(std::string_view text) { append(text.data(), text.size()); }

  size_t size() const { return bytes_.size(); }
  // Overwrites what lies at `offset`; it must have been written before.
  template <Scalar T>
  void patch(size_t offset, T value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof value);
  }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::vector<std::byte> take() && { return std::move(bytes_); }

 private:
  void append(const void* data, size_t length) {
    if (length == 0) return;  // `data` may be null then
    const size_t begin = bytes_.size();
    bytes_.resize(begin + length);
    std::memcpy(bytes_.data() + begin, data, length);
  }
  std::vector<std::byte> bytes_;
};

// The first read past the end makes the reader fail for good: later reads give zero and empty, so
// that a decoder may ask ok() once a section. Nothing is allocated for bytes that are not there.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  size_t remaining() const { return rest_.size(); }

  template <Scalar T>
  T get() {
    T value{};
    if (const std::span<const std::byte> from = take(sizeof value); !from.empty()) {
      std::memcpy(&value, from.data(), sizeof value);
    }
    return value;
  }
  template <Scalar T>
  std::vector<T> get_vector(size_t count) {
    if (count > rest_.size() / sizeof(T)) fail();
    if (!ok_ || count == 0) return {};
    std::vector<T> values(count);
    const std::span<const std::byte> from = take(count * sizeof(T));
    std::memcpy(values.data(), from.data(), from.size());
    return values;
  }
  std::string get_string(size_t length) {
    const std::span<const std::byte> from = take(length);
    return std::string(reinterpret_cast<const char*>(from.data()), from.size());
  }
  void fail() {
    ok_ = false;
    rest_ = {};
  }

 private:
  std::span<const std::byte> take(size_t length) {
    if (length > rest_.size()) fail();
    if (!ok_) return {};
    const std::span<const std::byte> taken = rest_.first(length);
    rest_ = rest_.subspan(length);
    return taken;
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace aurora
