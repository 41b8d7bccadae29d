// Of a server that is asked.
#pragma once

#include <cstdlib>
#include <string>

namespace aurora {

// `given`, or what the environment has, which keeps it out of the list of processes.
inline std::string api_key(const std::string& given) {
  if (!given.empty()) return given;
  for (const char* name : {"AURORA_API_KEY", "LLAMA_API_KEY"})
    if (const char* key = std::getenv(name)) return key;
  return "";
}

}  // namespace aurora
