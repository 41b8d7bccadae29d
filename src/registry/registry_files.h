// The registry's folder: names of its files, what is there, and the lock of its writers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_handle.h"
#include "base/status.h"

namespace aurora {

inline constexpr const char* kDraftFile = ".gguf";
inline constexpr const char* kManifestFile = ".json";
inline constexpr const char* kVerdictFile = ".verdict.json";

struct RegistryFiles {
  std::vector<int64_t> manifests;  // rising
  std::vector<int64_t> ggufs;      // rising
  std::vector<int64_t> verdicts;   // rising
  int64_t highest = 0;             // over all of our names, unfinished ones too
};

std::string registry_file_name(int64_t version, const char* suffix);  // "draft-000007.json"
Result<RegistryFiles> scan_registry(const std::string& dir);
// Held until the handle closes. Writers of different processes and of one take turns; unavailable
// after 2 s.
Result<FileHandle> lock_registry(const std::string& dir);

}  // namespace aurora
