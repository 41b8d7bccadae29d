#pragma once

#include <filesystem>
#include <string>

namespace aurora {
// Path of a program that is installed beside this one.
inline std::string sibling_program(const char* name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (error ? std::filesystem::path(name) : self.parent_path() / name).string();
}
}  // namespace aurora
