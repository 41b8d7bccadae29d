// A GGUF opened for reading: metadata parsed, tensor data memory-mapped. Internal to src/train.
#pragma once

#include <gguf.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"

namespace aurora {

struct FreeGguf {
  void operator()(gguf_context* context) const { gguf_free(context); }
};
using GgufPtr = std::unique_ptr<gguf_context, FreeGguf>;

// A matrix [rows, cols] in the file, row major in any ggml type; a vector has one row.
struct GgufTensor {
  std::string name;
  ggml_type type = GGML_TYPE_F32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;  // valid as long as the GgufFile lives
};

// Thread-safe after open. Numbers of any width are read; of an array, `index` chooses (per-layer
// keys), and a scalar ignores it.
class GgufFile {
 public:
  // invalid: not a GGUF, or one part of a split model. truncated: tensor data ends early.
  static Result<std::unique_ptr<GgufFile>> open(const std::string& path);
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::string& path() const { return path_; }
  const gguf_context* meta() const { return meta_.get(); }

  bool has(const std::string& key) const;
  Result<std::string> text(const std::string& key) const;
  bool flag(const std::string& key) const;  // false when absent
  Result<int64_t> integer(const std::string& key, size_t index = 0) const;
  Result<double> number(const std::string& key, size_t index = 0) const;
  size_t array_size(const std::string& key) const;  // 0: no such array

  bool has_tensor(const std::string& name) const;
  Result<GgufTensor> tensor(const std::string& name) const;
  // invalid when the shape is another one. A vector is {1, cols}.
  Result<GgufTensor> tensor(const std::string& name, int64_t rows, int64_t cols) const;

 private:
  GgufFile() = default;

  std::string path_;
  GgufPtr meta_;
  std::shared_ptr<const MappedFile> map_;
};

// out: [cols] fp32. row must be in range.
void dequantise_row(const GgufTensor& tensor, int64_t row, float* out);
std::vector<float> dequantise(const GgufTensor& tensor);  // [rows, cols]
// A type that dequantise_row can read (integer tensors cannot).
bool can_dequantise(const GgufTensor& tensor);

}  // namespace aurora
