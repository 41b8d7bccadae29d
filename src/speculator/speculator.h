// The speculator: capture behind llama.cpp's seam, and the way from the seam to the draft service,
// which decides every draft (draft_service.h). Public face of this folder. process() is where a
// target decode is read (taps, laws), draft() where a new version is taken and drafts are made,
// accept() where the target's verdict on a draft arrives: the reward.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "aurora_seam.h"
#include "base/core_lease.h"
#include "live/live_history.h"
#include "metrics/aurora_metrics.h"
#include "speculator/core_schedule.h"
#include "speculator/draft_engine.h"
#include "speculator/draft_loader.h"
#include "speculator/draft_service.h"
#include "speculator/fall_watch.h"
#include "speculator/law.h"
#include "speculator/request_figures.h"
#include "speculator/slot_trace.h"
#include "speculator/trace_writer.h"
#include "trace/trace_buffer.h"

namespace aurora {

struct SpeculatorOptions {
  std::string target;  // fingerprint
  std::string target_path;
  std::string traces_dir;
  std::string buffer_url;  // nats://...; empty: LMDB in traces_dir
  std::string registry_dir;
  std::string trainer_status;  // file the trainer writes, for /metrics
  bool capture = true;
  double capture_rate = 1;  // share of the requests that are recorded
  bool gate = true;         // false: every version serves, each draft as deep as it may be
  bool ngrams = true;       // draft from repeated text
  bool chain = true;        // draft with the learnt draft
  uint64_t buffer_bytes_max = 2ull << 30;
  int64_t expires_in_s = 0;
  int32_t law_count = 64;   // k of the recorded law
  size_t refused_max = 64;  // refused rows kept of one request
  float draft_prob_min = 0;
  uint32_t depth_seed = 0;                  // see DraftServiceOptions
  std::function<bool(bool on)> train = {};  // pauses the trainer beside it; false: there is none
  std::function<bool()> trainer_runs = {};  // whether its process is there, beside a busy server
  std::string state_dir;  // where a trainer beside the server is spoken to; empty: there is none
  double train_share = 0.25;  // see CoreScheduleOptions
  int cores = 1;              // that this process may use
};

// Engine thread, except metrics_text(), live_state(), turn() and trainer_ended(). Nothing here
// waits for disk, trainer or registry; whatever goes wrong inside is counted
// (aurora:speculator_errors_total) and the step goes on as if there were no draft.
class Speculator : public Seam {
 public:
  explicit Speculator(SpeculatorOptions options);
  ~Speculator() override;

  std::string attach(llama_context* target, int32_t slots, int32_t draft_max) override;
  void detach() override;
  int32_t positions_to_keep(int32_t kept, int32_t unmoved, KeptRows* rows) override;
  void request_start(const RequestStart& start, KeptRows* rows) override;
  void request_copied(int32_t from, int32_t to, KeptRows* rows) override;
  void token_served(int32_t slot, int32_t token) override;
  void request_end(int32_t slot) override;
  void cells_free(int64_t cells) override { cells_free_ = cells; }
  void process(const common_batch& batch) override;
  void draft(std::vector<common_speculative_draft_params>& params) override;
  void accept(int32_t slot, int32_t accepted) override;
  std::string labels_from(const std::map<std::string, std::string>& headers,
                          RequestLabels& labels) const override;
  std::string metrics_text() override;
  std::string live_state(const std::string& seen) override;
  std::string turn(const std::string& what, const std::string& to) override;
  std::string request_figures(int32_t slot) override;
  // The trainer beside this server has ended: for the figures, and no core is lent to it any more.
  // Any thread.
  void trainer_ended(int exit_code, const std::string& sentence);

 private:
  struct Slot {
    SlotTrace trace;
    KeptRows* rows = nullptr;
    bool rows_whole =
        true;  // false: cells moved or are not text; nothing is captured until the next request
    bool sampled = true;     // false: --capture-rate left this request out
    int64_t drafted_by = 0;  // version of the draft in flight
    int64_t version = 0;     // that its last step could use, 0: none
    RequestFigures figures;
    int64_t token_us = 0;  // when it began, or had its last token

    // Nobody reads a rollout: it is neither drafted for nor counted in the accept length.
    bool rollout() const { return trace.request().labels.rollout_of != 0; }
    // Whether its steps do: an embedding has steps and no tokens.
    bool counts() const { return trace.request().completion && !rollout(); }
    bool speculates() const { return trace.request().labels.speculate && !rollout(); }
  };

  void guard(const char* where, const std::function<void()>& work);
  Status start_writer();
  TraceWriter::BeginAnew begin_anew(const TraceBufferOptions& options);
  void start_service(int32_t slots, int32_t draft_max);
  void start_sweeper(const TraceBufferOptions& buffer_options);
  void adopt_if_ready();
  void answer_loader();
  void tell(const VersionVerdict& verdict);
  void start_in_service(const RequestStart& start);
  void keep_row(Slot& slot, int32_t position, int32_t token, int32_t batch_index);
  void keep_law(Slot& slot, int32_t batch_index);
  void finish_step(int32_t slot_id, int32_t first, bool output);
  void count_step(Slot& slot);
  TraceDrop drop_cause(const Slot& slot) const;
  void make_wishes(const std::vector<common_speculative_draft_params>& params);
  void hand_out(std::vector<common_speculative_draft_params>& params);
  void show_arms();
  void note_live();
  void happened(const char* kind, int64_t version, std::string text);
  void begin_serving();
  void lend_cores();
  void use_threads(int32_t threads);
  void set_threads(int32_t threads);
  bool serving_some() const;
  Slot* find(int32_t slot);

  const SpeculatorOptions options_;
  Metrics metrics_;
  ServeMetrics serve_{metrics_};

  LiveHistory live_;
  std::atomic<bool> drafting_{true}, training_{true};  // the live page's switches

  std::mutex trainer_end_mutex_;
  std::string trainer_end_;  // how it last ended; empty: it has not

  llama_context* target_ = nullptr;
  int32_t hidden_ = 0;
  int32_t vocab_ = 0;
  int32_t tap_layers_[kTapCount] = {0, 0, 0};
  std::vector<Slot> slots_;
  int64_t cells_free_ = 0;
  uint64_t next_row_id_ = 1;
  uint64_t next_request_;  // drawn at start, then counted: what --capture-rate looks at
  LawScratch scratch_;
  const float* taps_[kTapCount] = {nullptr, nullptr, nullptr};  // of the batch in process()
  std::vector<DraftService::Wish> wishes_;
  int32_t batch_max_ = 0;  // rows of a target decode

  std::optional<CoreLender> lender_;  // as long as this lives: any thread may use it
  CoreSchedule schedule_;
  FallWatch fall_watch_;
  int32_t threads_max_ = 1;  // as the server was started
  int32_t threads_ = 1;      // of the steps now

  bool wanted_changed_ = true;  // the loader has to hear which versions are wanted
  uint64_t draft_calls_ = 0;
  uint64_t failures_ = 0;                                         // of drafting
  std::array<DraftService::ArmFigures, kDraftArmCount> shown_{};  // in the metrics already
  std::unique_ptr<DraftLoader> loader_;
  std::unique_ptr<DraftService> service_;  // hands its versions to the loader when it goes
  std::unique_ptr<TraceWriter> writer_;
  std::unique_ptr<TraceWriter> sweeper_;  // of traces that nobody writes any more
};

}  // namespace aurora
