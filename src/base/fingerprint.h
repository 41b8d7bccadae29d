// Names a file by its size and some of its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace aurora {

inline constexpr size_t kFingerprintDigits = 16;

struct FilePiece {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// First 16 hex digits of sha256(size, pieces in their order); what stands behind the file's end is
// left out. Reads the pieces and nothing else.
Result<std::string> file_fingerprint(const std::string& path, std::span<const FilePiece> pieces);

}  // namespace aurora
