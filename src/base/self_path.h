#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace aurora {
// Path of a program that is installed beside this one.
inline std::string sibling_program(const char* name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (error ? std::filesystem::path(name) : self.parent_path() / name).string();
}

// argv for execv. Borrows from both.
inline std::vector<char*> exec_args(const std::string& program,
                                    const std::vector<std::string>& args) {
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  return argv;
}
}  // namespace aurora
