// The speculator: drafting, capture and adoption behind llama.cpp's seam. Public face of this
// folder. process() is where a target decode is read (taps, laws), draft() where drafts are made
// and a new version is taken, accept() where the target's verdict on a draft arrives: the reward.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aurora_seam.h"
#include "metrics/aurora_metrics.h"
#include "speculator/draft_depth.h"
#include "speculator/draft_engine.h"
#include "speculator/draft_loader.h"
#include "speculator/gate_live.h"
#include "speculator/law.h"
#include "speculator/pays_live.h"
#include "speculator/slot_trace.h"
#include "speculator/trace_writer.h"
#include "speculator/verify_cost.h"
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
  bool gate = true;
  uint64_t buffer_bytes_max = 2ull << 30;
  int64_t expires_in_s = 0;
  int32_t law_count = 64;   // k of the recorded law
  size_t refused_max = 64;  // refused rows kept of one request
  float draft_prob_min = 0;
  uint32_t depth_seed = 0;    // see DraftDepth
  float draft_share = 0.08f;  // one draft token's cost as a share of T(1), until measured live
};

// Engine thread, except metrics_text(). Nothing here waits for disk, trainer or registry; whatever
// goes wrong inside is counted (aurora:speculator_errors_total) and the step goes on as if there
// were no draft.
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

 private:
  struct Slot {
    SlotTrace trace;
    KeptRows* rows = nullptr;
    bool rows_whole =
        true;  // false: cells moved or are not text; nothing is captured until the next request
    bool pays = true;          // false: drafting did not pay when the request began
    bool sampled = true;       // false: --capture-rate left this request out
    int64_t drafted_by = 0;    // version of the draft in flight
    int64_t live_version = 0;  // tokens and steps of this request under this version
    int64_t live_tokens = 0;
    int64_t live_steps = 0;

    // Nobody reads a rollout: it is neither drafted for nor counted in the accept length.
    bool rollout() const { return trace.request().labels.rollout_of != 0; }
    // Whether its steps do: an embedding has steps and no tokens.
    bool counts() const { return trace.request().completion && !rollout(); }
    bool speculates() const { return trace.request().labels.speculate && !rollout(); }
  };

  void guard(const char* where, const std::function<void()>& work);
  Status start_writer();
  void adopt_if_ready();
  void answer_loader();
  void count_live(Slot& slot, int32_t tokens);
  void judge_live(Slot& slot, int64_t next_version);
  void roll_back();
  DraftVerdict live_verdict(int64_t version, DraftVerdict::Kind kind) const;
  void keep_row(Slot& slot, int32_t position, int32_t token, int32_t batch_index);
  void keep_law(Slot& slot, int32_t batch_index);
  void finish_step(int32_t slot_id, int32_t first, bool output);
  TraceDrop drop_cause(const Slot& slot) const;
  void make_wishes(const std::vector<common_speculative_draft_params>& params);
  Slot* find(int32_t slot);

  const SpeculatorOptions options_;
  Metrics metrics_;
  ServeMetrics serve_{metrics_};

  llama_context* target_ = nullptr;
  int32_t hidden_ = 0;
  int32_t vocab_ = 0;
  DraftDepth depth_{0, 0};
  int32_t tap_layers_[kTapCount] = {0, 0, 0};
  std::vector<Slot> slots_;
  int64_t cells_free_ = 0;
  uint64_t next_row_id_ = 1;
  uint64_t next_request_;  // drawn at start, then counted: what --capture-rate looks at
  LawScratch scratch_;
  const float* taps_[kTapCount] = {nullptr, nullptr, nullptr};  // of the batch in process()
  std::vector<DraftEngine::Wish> wishes_;

  LiveGate live_gate_;
  PaysLive pays_live_;
  std::unique_ptr<DraftEngine> engine_;     // in service
  std::unique_ptr<DraftEngine> last_good_;  // to go back to, from memory
  std::unique_ptr<DraftLoader> loader_;
  std::unique_ptr<TraceWriter> writer_;
};

}  // namespace aurora
