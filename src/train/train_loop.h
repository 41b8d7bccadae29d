// The trainer's loop: take in traces, train, checkpoint, offer drafts. Knows no LibTorch and no
// GGUF: both come in through TrainSeams, so tests run it with toys. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "metrics/trainer_status.h"
#include "train/checkpoint.h"
#include "train/draft_vocab.h"
#include "train/gate.h"
#include "train/learner.h"
#include "train/loss_guard.h"
#include "train/record_check.h"
#include "train/train_seams.h"
#include "train/try_note.h"
#include "train/window.h"

namespace aurora {

struct TrainLoopOptions {
  std::string target;           // fingerprint: records of another target are skipped
  std::string checkpoint_path;  // empty: none (benches)
  std::string status_path;      // trainer.status, empty: none
  // For tests, empty: none. Appends "step sequence pass" for each record before its step, and
  // "resumed step" at a start.
  std::string audit_path;
  DraftShape shape;  // records of another hidden size or other taps are skipped
  int vocab_size = 0;
  int columns_per_step = 64;  // supervised columns of one optimiser step
  WindowOptions window;
  bool gate = true;  // false: publish whenever a publication is due
  GateOptions gate_options;
  int draft_depth = 2;             // N the gate replays
  int publish_first_records = 8;   // records before the first offer
  int publish_every_records = 16;  // further ones between two offers
  double checkpoint_every_s = 30;  // and at least 50 times what the last one took
  double status_every_s = 2;
  double lag_look_every_s = 10;  // while nothing is read
  bool once = false;      // leave when the buffer is drained and every record has had its passes
  bool branches = false;  // refused rows are learnt from; otherwise they take no memory
  uint64_t seed = 1;
};

struct TrainFigures {
  uint64_t steps = 0;
  double loss = 0;        // running mean, rows that count
  double rows_per_s = 0;  // supervised columns a second of training time, running mean
  uint64_t lag_records = 0;
  int64_t version = 0;
  double holdout_accept_len = 0;  // of the last offer; 0: none yet
  uint64_t trained_tokens = 0;    // served to users, in the records taken in
  uint64_t trained_columns = 0;   // supervised columns, each pass again, since the start
  double training_s = 0;          // spent on them
  uint64_t offers = 0, published = 0;
  uint64_t went_back = 0;        // to good weights, since the start
  UnusableCounts unusable{};     // records left out, since the start
  uint64_t dropped_records = 0;  // could not be learnt from, or have killed the trainer
};

class TrainLoop {
 public:
  TrainLoop(const TrainLoopOptions& options, const TrainSeams& seams);

  // Loads the checkpoint, if there is one, and re-reads its records from the buffer. Call once,
  // before step(). One that is damaged, or of another target or draft shape, is renamed to .bad and
  // training begins anew. With ranks: everyone gets rank 0's state, whether it had a checkpoint or
  // not.
  Status resume();

  // One round: false when there was nothing to do. With ranks, an error of a lost one ends it.
  Result<bool> step();

  // step() until stop() says so (then a checkpoint) or, with options.once, until all work is done.
  Status run(const std::function<bool()>& stop);

  // Atomic. With ranks: of all of them, each calls it; internal where
  // their weights differ.
  Status checkpoint();

  const TrainFigures& figures() const { return figures_; }

 private:
  bool leads() const { return rank_ == 0; }
  bool lost() const { return seams_.ranks && seams_.ranks->lost(); }
  uint64_t records_seen() const { return window_.records_seen() + others_seen_; }
  Result<bool> to_read();
  Result<bool> take_in();
  struct Intake;
  Result<Intake> read_more();
  Status share(Intake& intake) const;
  Status read_up_to(uint64_t sequence);
  void add(StoredRecord stored);
  void follow_reset(uint64_t last_sequence);
  bool usable(const StoredRecord& stored);
  bool wants_records();
  void look_at_lag();
  std::vector<int64_t> new_vocab();
  using Parts = std::vector<std::shared_ptr<const TraceRecord>>;
  Parts parts_of(const std::shared_ptr<const TraceRecord>& record) const;
  Status train();
  Status learn(RecordRefs records);
  Result<LearnResult> tried(RecordRefs records);
  void note(const LearnResult& result);
  Status learn_each(RecordRefs records, const Status& together);
  Result<std::vector<ReplayScore>> replayed(Scorer& scorer, RecordRefs records);
  Status checkpoint_if(bool due);
  bool checkpoint_due() const;
  Status write_all_books();
  Checkpoint state() const;
  Status restore();
  Result<Checkpoint> own_checkpoint();
  Status load_weights(const Checkpoint& c);
  Status take_over(const Checkpoint& c);
  void go_back();
  void audit(const std::vector<const WindowEntry*>& drawn);
  void append_audit(const std::string& lines) const;
  int records_an_offer() const;
  uint64_t records_to_offer() const;
  bool offer_due() const;
  void offer();
  Result<GateDecision> judge(const std::vector<const TraceRecord*>& holdout);
  Result<const std::vector<ReplayScore>*> in_service_scores(
      const std::vector<const TraceRecord*>& holdout);
  Status publish(const GateDecision& decision);
  void warn_if_misaligned(const GateDecision& decision);
  TrainerStatus status() const;
  void write_status(bool force);
  Result<Window::Books> reread(Window::Books books, uint64_t cursor);

  const TrainLoopOptions options_;
  const TrainSeams seams_;
  const int rank_, ranks_count_;
  Window window_;
  DraftVocab vocab_;
  LossGuard guard_;
  SmallRng rng_;
  TrainFigures figures_;
  uint64_t cursor_ = 0;       // taken in up to here
  uint64_t others_seen_ = 0;  // usable records that are in other ranks' windows
  uint64_t offered_at_ = 0;   // records_seen() at the last offer
  uint64_t vocab_at_ = 0;     // the same at the last look at the vocabulary
  uint64_t steps_at_offer_ = 0;
  double loss_first_ = 0;
  int64_t checkpoint_us_ = 0, checkpoint_cost_us_ = 0, status_us_ = 0, lag_us_ = 0;
  int failures_ = 0;              // steps in a row in which nothing was learnt
  TryNote tries_;                 // alone only: ranks end each other
  std::map<Piece, int> strikes_;  // of records that failed alone
  std::function<bool()> stop_;
  bool dirty_ = false;              // something happened since the last checkpoint
  int64_t in_service_version_ = 0;  // of in_service_
  std::unique_ptr<Scorer> in_service_;
  std::vector<ReplayScore> in_service_scores_;
};

}  // namespace aurora
