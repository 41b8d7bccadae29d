// A GGUF opened for draft_check: header by ggml, data by pread. Private to it.
#pragma once

#include <ggml.h>
#include <gguf.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "speculator/draft_check.h"

namespace aurora {

// A GGUF's header, and its tensor data by pread: a file cut while it is read is a short read, not a
// SIGBUS.
class DraftGguf {
 public:
  static constexpr std::string_view kPrefix = "eagle3.";

  // not found, io, invalid (no file), corrupt (no GGUF). May throw bad_alloc on a hostile count.
  static Result<DraftGguf> open(const std::string& path);

  TokenizerDigest tokenizer() const;
  const gguf_context* gguf() const { return gguf_.get(); }
  uint64_t bytes() const { return bytes_; }
  // -1: missing, or of another type.
  int64_t find(const std::string& key, gguf_type type) const {
    const int64_t id = gguf_find_key(gguf(), key.c_str());
    return id >= 0 && gguf_get_kv_type(gguf(), id) == type ? id : -1;
  }
  // Values of eagle3.<name>; nullopt: missing, or of another type.
  std::optional<uint32_t> count(std::string_view name) const {
    const int64_t id = find(std::string(kPrefix).append(name), GGUF_TYPE_UINT32);
    if (id < 0) return std::nullopt;
    return gguf_get_val_u32(gguf(), id);
  }
  std::optional<float> real(std::string_view name) const {
    const int64_t id = find(std::string(kPrefix).append(name), GGUF_TYPE_FLOAT32);
    if (id < 0) return std::nullopt;
    return gguf_get_val_f32(gguf(), id);
  }
  bool flag(std::string_view name) const {
    const int64_t id = find(std::string(kPrefix).append(name), GGUF_TYPE_BOOL);
    return id >= 0 && gguf_get_val_bool(gguf(), id);
  }
  bool has(std::string_view name) const {
    return gguf_find_key(gguf(), std::string(kPrefix).append(name).c_str()) >= 0;
  }
  uint64_t tensor_begin(int64_t id) const {
    return gguf_get_data_offset(gguf()) + gguf_get_tensor_offset(gguf(), id);
  }
  // False: the file is shorter by now, or the disk failed.
  bool read(uint64_t offset, std::span<std::byte> out) const;

 private:
  struct CloseFile {
    void operator()(FILE* file) const { std::fclose(file); }
  };
  struct FreeGguf {
    void operator()(gguf_context* gguf) const { gguf_free(gguf); }
  };

  std::unique_ptr<FILE, CloseFile> file_;
  std::unique_ptr<gguf_context, FreeGguf> gguf_;
  uint64_t bytes_ = 0;
};

}  // namespace aurora
