// The draft registry: draft versions on disk, their manifest and verdicts. Format:
// docs/draft-registry.md.
//   dir/draft-000007.gguf      the weights, never changed after publication
//   dir/draft-000007.json      its manifest, written LAST (a version without one does not exist)
//   dir/draft-000007.verdict.json   what serving found: written by servers, replaced as a whole
//   dir/pinned                 a version's number: the one that may serve, by an operator's hand
// Temporary file, fsync, rename, fsync of the directory, manifest last. One publisher (the
// trainer), many readers. Thread-safe. Readers never wait; writers take turns (a lock file) and
// give up with kUnavailable after 2 s.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

// What a peer may say: beyond these it is refused, so that no number ever runs over.
inline constexpr int64_t kDraftVersionMax = 1'000'000'000'000'000;
inline constexpr uint64_t kDraftBytesMax = 16ull << 30;

struct DraftManifest {
  int64_t version = 0;  // 1, 2, ... never used again
  int64_t parent = 0;   // version it was trained from, 0: none
  int64_t created_ms = 0;
  std::string target;            // fingerprint of the target it drafts for
  uint64_t bytes = 0;            // of the gguf
  std::string sha256;            // of the gguf, hex
  uint64_t trained_tokens = 0;   // served tokens the trainer had seen
  double replay_accept_len = 0;  // gate: generated tokens per target step on the holdout, candidate
  double replay_accept_len_in_service = 0;  // same holdout, the version it replaces (1.0: none)
  std::string reason;                       // one sentence: why it was published
};

struct DraftVerdict {
  int64_t version = 0;
  enum class Kind { kServing, kRefused, kRolledBack } kind = Kind::kServing;
  std::string reason;
  double live_accept_len = 0;
  uint64_t target_steps = 0;
};

class Registry {
 public:
  static constexpr size_t kManifestsKept = 1000;

  // Creates dir (0700). Never deletes on open; leftovers of a dead publisher (".tmp") are ignored
  // and reused.
  static Result<Registry> open(std::string dir);

  // The newest version with a readable manifest, verdict not
  // kRefused/kRolledBack, target == `target` and its gguf not pruned. nullopt: none yet. A broken
  // manifest or verdict is skipped, logged once.
  Result<std::optional<DraftManifest>> newest(const std::string& target) const;
  // Every version that newest() would look at, newest first; those that a server put away once come
  // behind the others. What may serve, in the order in which to try.
  Result<std::vector<DraftManifest>> candidates(const std::string& target) const;
  // The pinned version; else the one that a server said is good, the newest of them; newest() where
  // none was judged yet.
  // What a trainer has to beat.
  Result<std::optional<DraftManifest>> serving(const std::string& target) const;
  Result<std::vector<DraftManifest>> list() const;  // by rising version, all targets
  Result<std::optional<DraftVerdict>> verdict(int64_t version) const;

  // Publisher. gguf_path is a finished file in dir's file system (see stage_path); it is moved.
  // Fills version, bytes, sha256, created_ms of `manifest` and returns it as published. On failure
  // the file is at gguf_path still.
  Result<DraftManifest> publish(const std::string& gguf_path, DraftManifest manifest);
  std::string stage_path() const;  // where the publisher writes the file first

  // A version that was published elsewhere, under its own number, after verifying size and sha256.
  // exists: this number or a later one is here already. On failure the file is at gguf_path still.
  Status adopt(const std::string& gguf_path, const DraftManifest& manifest);

  Status write_verdict(const DraftVerdict& verdict);

  // By an operator's hand. A version that is pinned is the only one that servers take, and is not
  // pruned. invalid: it may not serve, or (remove) it is pinned; not_found: its weights are not
  // here.
  Result<int64_t> pinned() const;  // 0: none
  Status pin(int64_t version);
  Status unpin();
  Status remove(int64_t version);  // the weights; number and manifest are never given again

  std::string gguf_path(int64_t version) const;
  // Size and sha256 of the file against its manifest. kCorrupt names the file and both values.
  Status verify(const DraftManifest& manifest) const;
  // Removes gguf files beyond the newest `keep` of each target, never a `needed` or pinned version,
  // and manifests and verdicts of versions without one beyond the newest `keep_manifests`: whoever
  // lists the folder reads all of them. For the publisher.
  Status prune(size_t keep, std::vector<int64_t> needed, size_t keep_manifests = kManifestsKept);

  const std::string& dir() const { return dir_; }

 private:
  struct Logged;
  explicit Registry(std::string dir);
  std::string path(int64_t version, const char* suffix) const;
  std::optional<DraftManifest> manifest(int64_t version) const;
  struct Judged {
    DraftManifest manifest;
    std::optional<DraftVerdict> verdict;
    bool rolled_back() const { return verdict && verdict->kind == DraftVerdict::Kind::kRolledBack; }
  };
  static std::optional<DraftManifest> first_sound(std::vector<Judged>& all);
  Result<std::vector<Judged>> judged(const std::string& target) const;  // newest first, not refused
  Status put(const std::string& staged, const DraftManifest& manifest);
  Status prune_manifests(size_t keep, const std::vector<int64_t>& needed);

  std::string dir_;
  std::shared_ptr<Logged> logged_;  // shared by copies; own lock
};

}  // namespace aurora
