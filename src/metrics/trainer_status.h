// The trainer's figures travel to the server's /metrics in a small file, in the text exposition
// format: the two processes share no memory, and a reader never waits for a writer. One table has
// them all, with name and help: who writes, reads or exposes them goes through it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace aurora {

inline constexpr int64_t kTrainerSilenceMsMax = 30'000;  // write at least three times in it

struct TrainerStatus {
  double updated_ms = 0;  // unix time of the write
  double lag_records = 0;
  double rows_per_second = 0;
  double steps = 0;
  double dropped_records = 0;  // could not be learnt from, or have killed the trainer
  // An older trainer says nothing of these.
  double cpu_seconds = 0;
  double loss = 0;                // running mean
  double holdout_accept_len = 0;  // replayed, of the last offer; 0: none yet
  double draft_version = 0;       // published last; 0: none
  double next_offer_records = 0;  // 0: it is due
  double offers = 0;
  double published = 0;
  double went_back = 0;
  double trained_tokens = 0;
  // Records left out, by cause. The two first say nothing against a record.
  double left_out_foreign = 0;
  double left_out_short = 0;
  double left_out_shape = 0;
  double left_out_token = 0;
  double left_out_not_finite = 0;
  double left_out_failed = 0;
};

struct TrainerFigure {
  double TrainerStatus::*value;
  const char* name;
  const char* help;
  bool counter = false;
  bool needed = false;      // a file without it is none
  const char* labels = "";  // as Metrics takes them
};
std::span<const TrainerFigure> trainer_figures();

Status write_trainer_status(const std::string& path, const TrainerStatus& status);  // atomically
// What an older trainer leaves out stays 0.
Result<TrainerStatus> read_trainer_status(const std::string& path);
bool is_alive(const TrainerStatus& status, int64_t now_ms);

}  // namespace aurora
