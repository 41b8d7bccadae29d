#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "base/file_handle.h"

namespace aurora {

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const auto failed = [&path](const char* what) {
    const int error = errno;
    std::string message = std::string("cannot ") + what + " " + path + ": " + std::strerror(error);
    return error == ENOENT ? Status::not_found(std::move(message)) : Status::io(std::move(message));
  };
  const FileHandle handle(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!handle.is_open()) return failed("open");
  struct stat seen {};
  if (::fstat(handle.get(), &seen) != 0) return failed("look at");
  const std::shared_ptr<MappedFile> file(new MappedFile);
  if (seen.st_size > 0) {
    const auto length = static_cast<size_t>(seen.st_size);
    void* const at = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, handle.get(), 0);
    if (at == MAP_FAILED) return failed("map");
    file->bytes_ = {static_cast<const std::byte*>(at), length};
  }
  return std::shared_ptr<const MappedFile>(file);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace aurora
