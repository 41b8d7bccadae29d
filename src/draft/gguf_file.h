// A GGUF opened for reading: the one reader of the project. The header is parsed by ggml, tensor
// data comes by pread or, where a caller asks, by a mapping.
#pragma once

#include <gguf.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
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
  uint64_t begin = 0;               // where in the file
  const std::byte* data = nullptr;  // of a mapped file; valid as long as the GgufFile lives
};

// Thread-safe after open. Numbers of any width are read; of an array, `index` chooses (per-layer
// keys), and a scalar ignores it.
class GgufFile {
 public:
  // The header alone. not found, io; invalid: not a regular file; corrupt: not a GGUF, or a broken
  // header. May throw bad_alloc on a hostile count.
  static Result<std::unique_ptr<GgufFile>> open(const std::string& path);
  // With all tensor data mapped: for files that nobody cuts while they are read. Also truncated:
  // tensor data ends early.
  static Result<std::unique_ptr<GgufFile>> open_mapped(const std::string& path);
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::string& path() const { return path_; }
  const gguf_context* meta() const { return meta_.get(); }
  uint64_t bytes() const { return bytes_; }

  bool has(const std::string& key) const;
  int64_t find(const std::string& key, gguf_type type) const;  // -1: missing, or of another type
  Result<std::string> text(const std::string& key) const;
  bool flag(const std::string& key) const;  // false when absent
  Result<int64_t> integer(const std::string& key, size_t index = 0) const;
  Result<double> number(const std::string& key, size_t index = 0) const;
  size_t array_size(const std::string& key) const;  // 0: no such array

  bool has_tensor(const std::string& name) const;
  Result<GgufTensor> tensor(const std::string& name) const;
  // invalid when the shape is another one. A vector is {1, cols}.
  Result<GgufTensor> tensor(const std::string& name, int64_t rows, int64_t cols) const;

  Status check_bounds() const;  // truncated: the file ends before a tensor does
  // False: the file is shorter by now, or the disk failed. A cut file is no SIGBUS here.
  bool read(uint64_t offset, std::span<std::byte> out) const;

 private:
  struct CloseFile {
    void operator()(FILE* file) const { std::fclose(file); }
  };
  GgufFile() = default;

  std::string path_;
  std::unique_ptr<FILE, CloseFile> file_;
  GgufPtr meta_;
  uint64_t bytes_ = 0;
  std::shared_ptr<const MappedFile> map_;
};

// For tensors of a mapped file. out: [cols] fp32. row must be in range.
void dequantise_row(const GgufTensor& tensor, int64_t row, float* out);
std::vector<float> dequantise(const GgufTensor& tensor);  // [rows, cols]
// A type that can be read as fp32 (integer tensors cannot).
bool can_dequantise(ggml_type type);
// One row from the bytes of a file. out: [cols] fp32.
void dequantise_row(ggml_type type, const std::byte* from, int64_t cols, float* out);

}  // namespace aurora
