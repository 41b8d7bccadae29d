#include "draft/tokenizer_digest.h"

#include <cstring>
#include <exception>
#include <span>

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

TokenizerDigest tokenizer_digest(const GgufFile& file) {
  TokenizerDigest out;
  for (int64_t i = 0; i < gguf_get_n_kv(file.meta()); ++i) {
    const std::string key = gguf_get_key(file.meta(), i);
    if (key.starts_with("tokenizer.ggml.")) out[key] = value_digest(file.meta(), i);
  }
  return out;
}

Result<TokenizerDigest> tokenizer_digest(const std::string& gguf_path) {
  try {
    const auto file = GgufFile::open(gguf_path);
    if (!file) return file.status();
    return tokenizer_digest(**file);
  } catch (const std::exception& e) {  // bad_alloc on a hostile count
    return Status::corrupt(gguf_path + " cannot be read: " + e.what());
  }
}

}  // namespace aurora
