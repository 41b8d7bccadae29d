// A file's bytes without a copy: pages come as they are read, and the kernel may take them back.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"

namespace aurora {

// Read only. The file must not be cut while it is mapped: replace it as a whole instead
// (write_file_atomically), and the mapping keeps the old content.
class MappedFile {
 public:
  // kNotFound when there is none.
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  MappedFile() = default;
  std::span<const std::byte> bytes_;
};

}  // namespace aurora
