#include "base/fingerprint.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/file_handle.h"
#include "base/sha256.h"

namespace aurora {
namespace {

// Appends [offset, offset + length) of the file; false when it cannot be read in full.
bool append_piece(int fd, off_t offset, size_t length, std::vector<std::byte>& out) {
  const size_t begin = out.size();
  out.resize(begin + length);
  size_t done = 0;
  while (done < length) {
    const ssize_t got =
        ::pread(fd, out.data() + begin + done, length - done, offset + static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<size_t>(got);
  }
  return true;
}

}  // namespace

Result<std::string> file_fingerprint(const std::string& path, std::span<const FilePiece> pieces) {
  const FileHandle handle(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat seen {};
  if (!handle.is_open() || ::fstat(handle.get(), &seen) != 0) {
    std::string message = "cannot open " + path + ": " + std::strerror(errno);
    return errno == ENOENT ? Status::not_found(std::move(message)) : Status::io(std::move(message));
  }
  if (!S_ISREG(seen.st_mode)) return Status::invalid(path + " is not a file");
  const auto size = static_cast<uint64_t>(seen.st_size);
  ByteWriter hashed;
  hashed.put(size);
  std::vector<std::byte> bytes = std::move(hashed).take();
  for (const FilePiece& piece : pieces) {
    const uint64_t offset = std::min(piece.offset, size);
    const uint64_t length = std::min(piece.bytes, size - offset);
    if (!append_piece(handle.get(), static_cast<off_t>(offset), length, bytes))
      return Status::io("cannot read " + path);
  }
  return sha256_hex(bytes).substr(0, kFingerprintDigits);
}

}  // namespace aurora
