#include "speculator/draft_check_gguf.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/sha256.h"

namespace aurora {
namespace {

std::string value_digest(const gguf_context* gguf, int64_t key) {
  const gguf_type type = gguf_get_kv_type(gguf, key);
  std::string bytes = gguf_type_name(type);
  const auto append = [&](const void* data, size_t length) {
    bytes.append(static_cast<const char*>(data), length);
  };
  if (type == GGUF_TYPE_STRING) {
    bytes += gguf_get_val_str(gguf, key);
  } else if (type != GGUF_TYPE_ARRAY) {
    const bool wide =
        type == GGUF_TYPE_UINT64 || type == GGUF_TYPE_INT64 || type == GGUF_TYPE_FLOAT64;
    const bool one = type == GGUF_TYPE_UINT8 || type == GGUF_TYPE_INT8 || type == GGUF_TYPE_BOOL;
    const bool two = type == GGUF_TYPE_UINT16 || type == GGUF_TYPE_INT16;
    append(gguf_get_val_data(gguf, key), wide ? 8 : one ? 1 : two ? 2 : 4);
  } else if (gguf_get_arr_type(gguf, key) == GGUF_TYPE_STRING) {
    for (size_t i = 0; i < gguf_get_arr_n(gguf, key); ++i) {
      const char* text = gguf_get_arr_str(gguf, key, i);
      append(text, std::strlen(text) + 1);
    }
  } else {
    // Elements of other arrays: token types and scores, four bytes each.
    const gguf_type element = gguf_get_arr_type(gguf, key);
    bytes += gguf_type_name(element);
    const bool four =
        element == GGUF_TYPE_INT32 || element == GGUF_TYPE_UINT32 || element == GGUF_TYPE_FLOAT32;
    append(gguf_get_arr_data(gguf, key), gguf_get_arr_n(gguf, key) * (four ? 4 : 1));
  }
  return sha256_hex(std::as_bytes(std::span(bytes)));
}

}  // namespace

Result<DraftGguf> DraftGguf::open(const std::string& path) {
  DraftGguf out;
  out.file_.reset(std::fopen(path.c_str(), "rbe"));
  struct stat seen {};
  if (!out.file_ || ::fstat(::fileno(out.file_.get()), &seen) != 0) {
    const int error = errno;
    std::string message = path + " cannot be opened: " + std::strerror(error);
    return error == ENOENT ? Status::not_found(std::move(message)) : Status::io(std::move(message));
  }
  if (!S_ISREG(seen.st_mode)) return Status::invalid(path + " is not a file");
  out.bytes_ = static_cast<uint64_t>(seen.st_size);
  char magic[4] = {};
  if (!out.read(0, std::as_writable_bytes(std::span(magic))) ||
      std::memcmp(magic, GGUF_MAGIC, 4) != 0) {
    return Status::corrupt(path + " is not a GGUF file");
  }
  out.gguf_.reset(gguf_init_from_file_ptr(out.file_.get(), {.no_alloc = true, .ctx = nullptr}));
  if (!out.gguf_) return Status::corrupt(path + " has a broken GGUF header");
  return out;
}

bool DraftGguf::read(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got =
        ::pread(::fileno(file_.get()), out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    offset += static_cast<uint64_t>(got);
    out = out.subspan(static_cast<size_t>(got));
  }
  return true;
}

TokenizerDigest DraftGguf::tokenizer() const {
  TokenizerDigest out;
  for (int64_t i = 0; i < gguf_get_n_kv(gguf()); ++i) {
    const std::string key = gguf_get_key(gguf(), i);
    if (key.starts_with("tokenizer.ggml.")) out[key] = value_digest(gguf(), i);
  }
  return out;
}

}  // namespace aurora
