// The trainer's whole state in one file, so that weights and the books of what trained them can
// never disagree. Layout: magic, version, length, crc32c of the body, body (little endian). Written
// atomically, by rank 0 for all ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "train/window.h"

namespace aurora {

// What one trainer rank trains on.
struct RankBooks {
  uint64_t rng = 0;
  Window::Books window;
};

struct Checkpoint {
  std::string target;  // fingerprint
  uint64_t cursor =
      0;  // records with sequence <= cursor have been taken in (trained, held out or skipped)
  uint64_t steps = 0;  // optimiser steps
  uint64_t trained_tokens = 0;
  uint64_t offered_at = 0;  // records seen at the last offer ...
  uint64_t vocab_at = 0;    // ... and at the last look at the draft's vocabulary
  int64_t version = 0;      // last one published
  double loss_first = 0, loss_mean = 0;
  std::vector<RankBooks> ranks = std::vector<RankBooks>(1);  // by rank, at least one
  std::vector<std::pair<int32_t, float>> vocab;              // DraftVocab::state()
  // As Learner::save() lends it; of one that was read: one array, of `bytes` or of what was
  // decoded.
  SavedLearner learner;
  std::shared_ptr<const void> bytes;
};

// The books of rank `rank` of `size`: its own where the checkpoint is of so many ranks, else its
// share of all of them, by owner_rank().
RankBooks books_of_rank(const Checkpoint& checkpoint, int rank, int size);

// The file's bytes, which ranks send to each other too. Versions 1 and 2, of one rank and of
// several, know no segments and no vocab_at: they are read still. corrupt, truncated, invalid
// (foreign or future): names `origin`.
std::vector<std::byte> encode_checkpoint(const Checkpoint& checkpoint);
Result<Checkpoint> decode_checkpoint(std::span<const std::byte> bytes, const std::string& origin);

// The learner's arrays go to the file as they lie.
Status write_checkpoint(const std::string& path, const Checkpoint& checkpoint);
// not_found: none yet. Otherwise as decode_checkpoint(). Maps the file: nothing large is copied.
Result<Checkpoint> read_checkpoint(const std::string& path);

}  // namespace aurora
