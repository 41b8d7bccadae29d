// The trainer's whole state in one file, so that weights and the books of what trained them can
// never disagree. Layout: magic, version, length, crc32c of the body, body (little endian). Written
// atomically.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "train/window.h"

namespace aurora {

struct Checkpoint {
  std::string target;  // fingerprint
  uint64_t cursor =
      0;  // records with sequence <= cursor have been taken in (trained, held out or skipped)
  uint64_t rng = 0;
  uint64_t steps = 0;  // optimiser steps
  uint64_t trained_tokens = 0;
  uint64_t offered_at = 0;  // records seen at the last offer
  int64_t version = 0;      // last one published
  double loss_first = 0, loss_mean = 0;
  Window::Books window;
  std::vector<std::pair<int32_t, float>> vocab;  // DraftVocab::state()
  std::vector<std::byte> learner;                // Learner::save()
};

Status write_checkpoint(const std::string& path, const Checkpoint& checkpoint);
// not_found: none yet. corrupt, truncated, invalid (foreign or future): names the path.
Result<Checkpoint> read_checkpoint(const std::string& path);

}  // namespace aurora
