// Safetensors: eight bytes of header length, a JSON header that names tensors with type, shape and
// place, their bytes one behind the other. What Hugging Face's programs read and write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"

namespace aurora {

// Those that a draft may be made of.
enum class SafeType { kF32, kF16, kBf16, kI64, kI32, kU8, kBool };

const char* safe_type_name(SafeType type);  // as the header has it
size_t safe_type_bytes(SafeType type);

struct SafeTensor {
  std::string name;
  SafeType type = SafeType::kF32;
  std::vector<int64_t> shape;       // the last dimension is the one whose values lie side by side
  std::span<const std::byte> data;  // not aligned
};

// Thread-safe after open. The file must not be cut while it is open (MappedFile).
class SafetensorsFile {
 public:
  static constexpr size_t kHeaderBytesMax = 16u << 20;
  static constexpr size_t kTensorsMax = 4096;

  // not found, io: the file cannot be read. truncated: it ends before what its header names.
  // corrupt: a header that cannot be, places that overlap or leave a gap. invalid: sound, with a
  // type that no draft has. One sentence that begins with the path.
  static Result<SafetensorsFile> open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<SafeTensor>& tensors() const { return tensors_; }  // as they lie in the file
  const SafeTensor* find(std::string_view name) const;                 // null: none
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  SafetensorsFile() = default;

  std::string path_;
  std::shared_ptr<const MappedFile> map_;
  std::vector<SafeTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// In this order, so give the wide types first: then every tensor is aligned. Appears at `path` as a
// whole or not at all.
Status write_safetensors(const std::string& path, std::span<const SafeTensor> tensors,
                         const std::map<std::string, std::string>& metadata);

}  // namespace aurora
