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

constexpr size_t kPieceBytes = 1u << 20;
constexpr size_t kFingerprintDigits = 16;

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

Result<std::string> file_fingerprint(const std::string& path) {
  const FileHandle handle(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat seen {};
  if (!handle.is_open() || ::fstat(handle.get(), &seen) != 0) {
    std::string message = "cannot open " + path + ": " + std::strerror(errno);
    return errno == ENOENT ? Status::not_found(std::move(message)) : Status::io(std::move(message));
  }
  if (!S_ISREG(seen.st_mode)) return Status::invalid(path + " is not a file");
  const size_t size = static_cast<size_t>(seen.st_size);
  const size_t length = std::min(size, kPieceBytes);
  ByteWriter hashed;
  hashed.put(static_cast<uint64_t>(size));
  std::vector<std::byte> bytes = std::move(hashed).take();
  if (!append_piece(handle.get(), 0, length, bytes) ||
      !append_piece(handle.get(), static_cast<off_t>(size - length), length, bytes)) {
    return Status::io("cannot read " + path);
  }
  return sha256_hex(bytes).substr(0, kFingerprintDigits);
}

}  // namespace aurora
