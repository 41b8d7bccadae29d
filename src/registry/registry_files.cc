#include "registry/registry_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <thread>

#include "registry/registry.h"

namespace aurora {
namespace {

namespace fs = std::filesystem;

constexpr auto kLockWaitMax = std::chrono::seconds(2);
constexpr auto kLockRetry = std::chrono::milliseconds(10);

// "draft-000007.json" -> 7 and ".json"; 0 for a name that is none of ours.
struct Name {
  int64_t version = 0;
  std::string_view suffix;
};

Name parse_name(std::string_view name) {
  constexpr std::string_view kPrefix = "draft-";
  if (!name.starts_with(kPrefix)) return {};
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size();
  Name parsed;
  const auto [after, error] = std::from_chars(begin, end, parsed.version);
  if (error != std::errc{} || parsed.version <= 0 || parsed.version > kDraftVersionMax) return {};
  parsed.suffix = {after, static_cast<size_t>(end - after)};
  return parsed;
}

}  // namespace

std::string registry_file_name(int64_t version, const char* suffix) {
  char name[64];
  std::snprintf(name, sizeof name, "draft-%06" PRId64 "%s", version, suffix);
  return name;
}

Result<RegistryFiles> scan_registry(const std::string& dir) {
  RegistryFiles found;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const Name parsed = parse_name(name);
    found.highest = std::max(found.highest, parsed.version);
    // Only names as we write them: "draft-7.json" is not version 7's file.
    if (name == registry_file_name(parsed.version, kManifestFile))
      found.manifests.push_back(parsed.version);
    if (name == registry_file_name(parsed.version, kDraftFile))
      found.ggufs.push_back(parsed.version);
    if (name == registry_file_name(parsed.version, kVerdictFile))
      found.verdicts.push_back(parsed.version);
  }
  if (error) return Status::io("cannot list the draft registry " + dir + ": " + error.message());
  std::sort(found.manifests.begin(), found.manifests.end());
  std::sort(found.ggufs.begin(), found.ggufs.end());
  std::sort(found.verdicts.begin(), found.verdicts.end());
  return found;
}

Result<FileHandle> lock_registry(const std::string& dir) {
  const std::string path = dir + "/registry.lock";
  FileHandle handle(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!handle.is_open()) {
    return Status::io("cannot write to the draft registry: " + path + ": " + std::strerror(errno));
  }
  const auto give_up = std::chrono::steady_clock::now() + kLockWaitMax;
  while (::flock(handle.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return Status::io("cannot lock " + path + ": " + std::strerror(errno));
    }
    if (std::chrono::steady_clock::now() > give_up) {
      return Status::unavailable("another process is writing to the draft registry " + dir);
    }
    std::this_thread::sleep_for(kLockRetry);
  }
  return handle;
}

}  // namespace aurora
