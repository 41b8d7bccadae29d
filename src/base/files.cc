#include "base/files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file_handle.h"

namespace aurora {
namespace {

Status system_error(const char* what, const std::string& path) {
  const int error = errno;
  std::string message = std::string("cannot ") + what + " " + path + ": " + std::strerror(error);
  return error == ENOENT ? Status::not_found(std::move(message)) : Status::io(std::move(message));
}

Status write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t wrote = ::write(fd, content.data(), content.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return system_error("write", path);
    content.remove_prefix(static_cast<size_t>(wrote));
  }
  return Status::ok();
}

Status sync_dir(const std::string& dir) {
  const FileHandle handle(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!handle.is_open()) return system_error("open", dir);
  // Some file systems cannot sync a directory and say EINVAL: nothing more can be done there.
  if (::fsync(handle.get()) != 0 && errno != EINVAL) return system_error("sync", dir);
  return Status::ok();
}

Status write_and_sync(const std::string& path, std::span<const std::string_view> parts,
                      mode_t mode) {
  // A leftover of a dead writer goes, and where a link lies in its place nothing is written
  // through it.
  ::unlink(path.c_str());
  FileHandle handle(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!handle.is_open()) return system_error("create", path);
  // Whatever the umask.
  if (::fchmod(handle.get(), mode) != 0) return system_error("set the mode of", path);
  for (const std::string_view part : parts)
    if (Status status = write_all(handle.get(), part, path); !status) return status;
  if (::fsync(handle.get()) != 0) return system_error("sync", path);
  if (!handle.close()) return system_error("close", path);
  return Status::ok();
}

}  // namespace

std::string parent_dir(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status write_file_atomically(const std::string& path, std::string_view content, mode_t mode) {
  return write_file_atomically(path, std::span(&content, 1), mode);
}

Status write_file_atomically(const std::string& path, std::span<const std::string_view> parts,
                             mode_t mode) {
  const std::string temporary = path + ".tmp";
  Status status = write_and_sync(temporary, parts, mode);
  if (status && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = system_error("rename onto", path);
  }
  if (!status) {
    ::unlink(temporary.c_str());
    return status;
  }
  return sync_dir(parent_dir(path));
}

Status rename_durably(const std::string& from, const std::string& to) {
  {
    const FileHandle handle(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
    if (!handle.is_open()) return system_error("open", from);
    if (::fsync(handle.get()) != 0) return system_error("sync", from);
  }
  if (::rename(from.c_str(), to.c_str()) != 0) return system_error("rename onto", to);
  return sync_dir(parent_dir(to));
}

Result<std::string> read_file(const std::string& path, size_t bytes_max) {
  const FileHandle handle(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!handle.is_open()) return system_error("open", path);
  std::string content;
  char piece[1 << 16];
  for (;;) {
    const ssize_t got = ::read(handle.get(), piece, sizeof piece);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("read", path);
    if (got == 0) return content;
    if (content.size() + static_cast<size_t>(got) > bytes_max) {
      return Status::full(path + " is longer than the " + std::to_string(bytes_max) +
                          " bytes allowed for it");
    }
    content.append(piece, static_cast<size_t>(got));
  }
}

Status make_dirs(const std::string& path) {
  if (path.empty()) return Status::invalid("the name of a directory is empty");
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string prefix = path.substr(0, end);
    if (::mkdir(prefix.c_str(), 0700) != 0 && errno != EEXIST) {
      // A directory above may exist and still refuse mkdir (read-only file system).
      struct stat seen {};
      const int error = errno;
      if (::stat(prefix.c_str(), &seen) != 0) {
        errno = error;
        return Status::io("cannot create directory " + prefix + ": " + std::strerror(error));
      }
    }
    if (end == std::string::npos) break;
  }
  struct stat seen {};
  if (::stat(path.c_str(), &seen) != 0) return system_error("use directory", path);
  if (!S_ISDIR(seen.st_mode)) return Status::io(path + " is in the way: it is not a directory");
  return Status::ok();
}

Status check_own_dir(const std::string& path) {
  struct stat seen {};
  if (::stat(path.c_str(), &seen) != 0) return system_error("use directory", path);
  if (seen.st_uid != ::geteuid())
    return Status::invalid(path + " belongs to another user (" + std::to_string(seen.st_uid) +
                           "); give a folder of your own");
  if ((seen.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return Status::invalid("others may write to " + path + "; take that from them: chmod go-w " +
                           path);
  return Status::ok();
}

}  // namespace aurora
