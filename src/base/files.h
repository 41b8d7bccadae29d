// Whole files, durably. A Status of these functions names the path and the system's reason.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace aurora {

// Temporary file beside it (path + ".tmp"), fsync, rename, fsync of the directory: a reader sees
// the old or the new content, also after power loss. One writer per path at a time. Leaves no
// temporary file behind on failure.
Status write_file_atomically(const std::string& path, std::string_view content, mode_t mode = 0600);
// The same of parts that lie one behind the other in the file, without joining them in memory.
Status write_file_atomically(const std::string& path, std::span<const std::string_view> parts,
                             mode_t mode = 0600);

// The second half of the above for a file already written: fsync of `from`, rename, fsync of the
// directory of `to`. Same file system.
Status rename_durably(const std::string& from, const std::string& to);

// kNotFound when there is none, kFull when longer than bytes_max.
Result<std::string> read_file(const std::string& path, size_t bytes_max = 64u << 20);

// Creates what is missing on the way, each directory 0700. Fine when it is there already.
Status make_dirs(const std::string& path);

// A directory that is there: whether it is this user's and nobody else may put files into it.
// invalid: one sentence that says what to do.
Status check_own_dir(const std::string& path);

// "dir/sub/name" -> "dir/sub"; "name" -> ".".
std::string parent_dir(const std::string& path);

}  // namespace aurora
