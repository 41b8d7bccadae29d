// The trainer's figures travel to the server's /metrics in a small file, in the text exposition
// format: the two processes share no memory, and a reader never waits for a writer.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace aurora {

inline constexpr int64_t kTrainerSilenceMsMax = 30'000;  // write at least three times in it

struct TrainerStatus {
  int64_t updated_ms = 0;  // unix time of the write
  double lag_records = 0;
  double rows_per_second = 0;
  uint64_t steps = 0;
  uint64_t dropped_records = 0;  // could not be learnt from, or have killed the trainer
  // What an older trainer's file does not have: 0.
  double loss = 0;                // running mean
  double holdout_accept_len = 0;  // replayed, of the last offer; 0: none yet
  uint64_t trained_tokens = 0;
  uint64_t offers = 0, published = 0;
  uint64_t went_back = 0;  // to the last good weights
};

Status write_trainer_status(const std::string& path, const TrainerStatus& status);  // atomically
Result<TrainerStatus> read_trainer_status(const std::string& path);
bool is_alive(const TrainerStatus& status, int64_t now_ms);

}  // namespace aurora
