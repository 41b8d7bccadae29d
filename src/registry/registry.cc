#include "registry/registry.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <string_view>

#include "base/clock.h"
#include "base/file_handle.h"
#include "base/files.h"
#include "base/log.h"
#include "base/parse_number.h"
#include "base/sha256.h"
#include "registry/manifest.h"
#include "registry/registry_files.h"

namespace aurora {
namespace {

namespace fs = std::filesystem;

constexpr size_t kJsonBytesMax = 1 << 20;
constexpr int64_t kVersionStepMax = 1'000'000'000;  // of a peer's version over the newest here
constexpr size_t kLoggedMax = 1024;
constexpr const char* kPinned = "pinned";

Status remove_file(const std::string& file) {
  if (::unlink(file.c_str()) == 0 || errno == ENOENT) return Status::ok();
  return Status::io("cannot remove " + file + ": " + std::strerror(errno));
}

// Size and sha256 of a file against the manifest.
Status verify_file(const std::string& file, const DraftManifest& manifest) {
  struct stat seen {};
  if (::stat(file.c_str(), &seen) != 0) {
    return Status::not_found("cannot read " + file + ": " + std::strerror(errno));
  }
  if (static_cast<uint64_t>(seen.st_size) != manifest.bytes) {
    return Status::corrupt(file + " has " + std::to_string(seen.st_size) +
                           " bytes, its manifest says " + std::to_string(manifest.bytes));
  }
  const Result<std::string> sha256 = sha256_file(file);
  if (!sha256) return sha256.status();
  if (*sha256 != manifest.sha256) {
    return Status::corrupt(file + " has sha256 " + *sha256 + ", its manifest says " +
                           manifest.sha256);
  }
  return Status::ok();
}

}  // namespace

// Complaints already logged: a broken file is met again at every poll.
struct Registry::Logged {
  std::mutex mutex;
  std::set<std::string> lines;

  void warn_once(const std::string& line) {
    const std::lock_guard guard(mutex);
    if (lines.size() >= kLoggedMax || !lines.insert(line).second) return;
    LOG_WARN("registry", "%s", line.c_str());
  }
};

Registry::Registry(std::string dir) : dir_(std::move(dir)), logged_(std::make_shared<Logged>()) {}

Result<Registry> Registry::open(std::string dir) {
  if (Status status = make_dirs(dir); !status) return status;
  return Registry(std::move(dir));
}

std::string Registry::path(int64_t version, const char* suffix) const {
  return dir_ + "/" + registry_file_name(version, suffix);
}

std::string Registry::gguf_path(int64_t version) const { return path(version, kDraftFile); }
std::string Registry::stage_path() const { return dir_ + "/stage.gguf.tmp"; }

std::optional<DraftManifest> Registry::manifest(int64_t version) const {
  const std::string file = path(version, kManifestFile);
  const Result<std::string> text = read_file(file, kJsonBytesMax);
  Result<DraftManifest> read = text ? decode_manifest(*text) : text.status();
  if (read && read->version != version) read = Status::corrupt("it names another version");
  if (read) return *read;
  logged_->warn_once("skipping " + file + ": " + read.status().to_string());
  return std::nullopt;
}

Result<std::vector<DraftManifest>> Registry::list() const {
  const Result<RegistryFiles> found = scan_registry(dir_);
  if (!found) return found.status();
  std::vector<DraftManifest> manifests;
  for (const int64_t version : found->manifests) {
    if (std::optional<DraftManifest> one = manifest(version)) manifests.push_back(std::move(*one));
  }
  return manifests;
}

Result<std::vector<Registry::Judged>> Registry::judged(const std::string& target) const {
  const Result<RegistryFiles> found = scan_registry(dir_);
  if (!found) return found.status();
  std::vector<Judged> all;
  for (auto version = found->manifests.rbegin(); version != found->manifests.rend(); ++version) {
    // Pruned: the manifest outlives its weights.
    if (!std::binary_search(found->ggufs.begin(), found->ggufs.end(), *version)) continue;
    std::optional<DraftManifest> one = manifest(*version);
    if (!one || one->target != target) continue;
    Result<std::optional<DraftVerdict>> said = verdict(*version);
    if (!said) {
      // It may say that the version was refused.
      logged_->warn_once("skipping version " + std::to_string(*version) + ": " +
                         said.status().to_string());
      continue;
    }
    if (*said && (*said)->kind == DraftVerdict::Kind::kRefused) continue;
    all.push_back({std::move(*one), std::move(*said)});
  }
  return all;
}

Result<std::optional<DraftManifest>> Registry::newest(const std::string& target) const {
  auto all = judged(target);
  if (!all) return all.status();
  return first_sound(*all);
}

std::optional<DraftManifest> Registry::first_sound(std::vector<Judged>& all) {
  for (Judged& one : all)
    if (!one.rolled_back()) return std::move(one.manifest);
  return std::nullopt;
}

Result<std::vector<DraftManifest>> Registry::candidates(const std::string& target) const {
  auto all = judged(target);
  if (!all) return all.status();
  std::stable_partition(all->begin(), all->end(),
                        [](const Judged& one) { return !one.rolled_back(); });
  std::vector<DraftManifest> manifests;
  for (Judged& one : *all) manifests.push_back(std::move(one.manifest));
  return manifests;
}

Result<std::optional<DraftManifest>> Registry::serving(const std::string& target) const {
  auto all = judged(target);
  if (!all) return all.status();
  const Result<int64_t> by_hand = pinned();
  if (!by_hand) return by_hand.status();
  for (Judged& one : *all)
    if (one.manifest.version == *by_hand)
      return std::optional<DraftManifest>(std::move(one.manifest));
  for (Judged& one : *all)
    if (one.verdict && one.verdict->kind == DraftVerdict::Kind::kServing)
      return std::optional<DraftManifest>(std::move(one.manifest));
  return first_sound(*all);
}

Result<std::optional<DraftVerdict>> Registry::verdict(int64_t version) const {
  const std::string file = path(version, kVerdictFile);
  const Result<std::string> text = read_file(file, kJsonBytesMax);
  if (!text && text.status().code() == StatusCode::kNotFound) return std::optional<DraftVerdict>{};
  if (!text) return text.status();
  Result<DraftVerdict> read = decode_verdict(*text);
  if (!read) return Status(read.status().code(), file + ": " + read.status().message());
  if (read->version != version) return Status::corrupt(file + " names another version");
  return std::optional<DraftVerdict>(std::move(*read));
}

Result<DraftManifest> Registry::publish(const std::string& staged, DraftManifest manifest) {
  struct stat seen {};
  if (::stat(staged.c_str(), &seen) != 0 || !S_ISREG(seen.st_mode) || seen.st_size == 0) {
    return Status::invalid("nothing to publish: " + staged + " is no file or empty");
  }
  const Result<std::string> sha256 = sha256_file(staged);
  if (!sha256) return sha256.status();

  const Result<FileHandle> held = lock_registry(dir_);
  if (!held) return held.status();
  const Result<RegistryFiles> found = scan_registry(dir_);
  if (!found) return found.status();
  manifest.version = found->highest + 1;
  manifest.bytes = static_cast<uint64_t>(seen.st_size);
  manifest.sha256 = *sha256;
  manifest.created_ms = unix_ms();

  if (Status status = put(staged, manifest); !status) return status;
  return manifest;
}

// With the lock held: the file, then its manifest.
Status Registry::put(const std::string& staged, const DraftManifest& manifest) {
  const std::string gguf = gguf_path(manifest.version);
  Status status = rename_durably(staged, gguf);
  if (status) {
    status =
        write_file_atomically(path(manifest.version, kManifestFile), encode_manifest(manifest));
  }
  // Back to where it was, so that the publisher may try again; without a manifest nobody saw it.
  if (!status) std::rename(gguf.c_str(), staged.c_str());
  return status;
}

Status Registry::adopt(const std::string& staged, const DraftManifest& manifest) {
  if (manifest.version <= 0) return Status::invalid("a draft without a version");
  if (Status status = verify_file(staged, manifest); !status) return status;
  const Result<FileHandle> held = lock_registry(dir_);
  if (!held) return held.status();
  const Result<RegistryFiles> found = scan_registry(dir_);
  if (!found) return found.status();
  if (found->highest >= manifest.version) {
    return Status::exists("draft " + std::to_string(found->highest) + " is in " + dir_ +
                          " already");
  }
  if (manifest.version - found->highest > kVersionStepMax)
    return Status::invalid("no draft comes so far behind " + std::to_string(found->highest));
  return put(staged, manifest);
}

Status Registry::write_verdict(const DraftVerdict& verdict) {
  if (verdict.version <= 0) return Status::invalid("a verdict needs the version it is about");
  const Result<FileHandle> held = lock_registry(dir_);
  if (!held) return held.status();
  return write_file_atomically(path(verdict.version, kVerdictFile), encode_verdict(verdict));
}

Result<int64_t> Registry::pinned() const {
  const std::string file = dir_ + "/" + kPinned;
  const Result<std::string> text = read_file(file, 64);
  if (!text && text.status().code() == StatusCode::kNotFound) return 0;
  if (!text) return text.status();
  int64_t version = 0;
  const std::string_view number(text->data(), std::min(text->find('\n'), text->size()));
  if (!parse_number<int64_t>(number, 1, kDraftVersionMax, version))
    return Status::corrupt(file + " holds no version; aurora drafts unpin removes it");
  return version;
}

Status Registry::pin(int64_t version) {
  const Result<FileHandle> held = lock_registry(dir_);
  if (!held) return held.status();
  const std::string name = "version " + std::to_string(version);
  const std::optional<DraftManifest> one =
      fs::exists(path(version, kManifestFile)) ? manifest(version) : std::nullopt;
  if (!one) return Status::not_found("there is no " + name + " in " + dir_);
  if (!fs::exists(gguf_path(version)))
    return Status::not_found("the weights of " + name + " are gone");
  const Result<std::optional<DraftVerdict>> said = verdict(version);
  if (!said) return said.status();
  if (*said && (*said)->kind == DraftVerdict::Kind::kRefused)
    return Status::invalid(name + " was refused: " + (*said)->reason);
  return write_file_atomically(dir_ + "/" + kPinned, std::to_string(version) + "\n");
}

Status Registry::unpin() {
  const Result<FileHandle> held = lock_registry(dir_);
  if (!held) return held.status();
  return remove_file(dir_ + "/" + kPinned);
}

Status Registry::remove(int64_t version) {
  const Result<FileHandle> held = lock_registry(dir_);
  if (!held) return held.status();
  const std::string name = "version " + std::to_string(version);
  const Result<int64_t> by_hand = pinned();
  if (!by_hand) return by_hand.status();
  if (*by_hand == version)
    return Status::invalid(name + " is pinned; take the pin away before: aurora drafts unpin");
  if (!fs::exists(gguf_path(version)))
    return Status::not_found("there are no weights of " + name + " in " + dir_);
  return remove_file(gguf_path(version));
}

Status Registry::verify(const DraftManifest& manifest) const {
  return verify_file(gguf_path(manifest.version), manifest);
}

Status Registry::prune(size_t keep, std::vector<int64_t> needed, size_t keep_manifests) {
  const Result<FileHandle> held = lock_registry(dir_);
  if (!held) return held.status();
  const Result<int64_t> by_hand = pinned();
  if (!by_hand) return by_hand.status();
  needed.push_back(*by_hand);
  const Result<RegistryFiles> found = scan_registry(dir_);
  if (!found) return found.status();
  std::map<std::string, size_t> kept;  // each target has its own newest ones
  for (auto version = found->ggufs.rbegin(); version != found->ggufs.rend(); ++version) {
    if (std::find(needed.begin(), needed.end(), *version) != needed.end()) continue;
    const bool published =
        std::binary_search(found->manifests.begin(), found->manifests.end(), *version);
    if (published) {
      const std::optional<DraftManifest> one = manifest(*version);
      if (!one || kept[one->target]++ < keep) continue;
    }
    // Without a manifest: left by a publisher that died in between, and the lock says that none is
    // at it now.
    if (Status status = remove_file(gguf_path(*version)); !status) return status;
  }
  return prune_manifests(keep_manifests, needed);
}

// With the lock held. The newest stay, so that no version number is ever given again.
Status Registry::prune_manifests(size_t keep, const std::vector<int64_t>& needed) {
  const Result<RegistryFiles> found = scan_registry(dir_);
  if (!found) return found.status();
  const auto& manifests = found->manifests;
  if (manifests.size() <= keep) return Status::ok();
  const int64_t first_kept = manifests[manifests.size() - std::max<size_t>(1, keep)];
  const auto remove_old = [&](const std::vector<int64_t>& versions, const char* suffix) {
    for (const int64_t version : versions) {
      if (version >= first_kept) break;
      if (std::binary_search(found->ggufs.begin(), found->ggufs.end(), version)) continue;
      if (std::find(needed.begin(), needed.end(), version) != needed.end()) continue;
      if (Status status = remove_file(path(version, suffix)); !status) return status;
    }
    return Status::ok();
  };
  // A verdict without a manifest says nothing; the other way round a refused version would look
  // like a good one.
  if (Status status = remove_old(manifests, kManifestFile); !status) return status;
  return remove_old(found->verdicts, kVerdictFile);
}

}  // namespace aurora
