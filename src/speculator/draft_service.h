// The one room where drafts are decided: owns the draft versions at work, every other way to a
// draft (an arm), what is known of how well each does, and the verdicts on versions. Each step it
// chooses arm and depth for every slot so that the expected tokens a millisecond are most
// (draft_plan.h); a new version meets the last good one in the same hours (version_trial.h).
//
// Knows no llama.cpp: a version is a ChainDrafter. Decode thread alone; nothing here waits, and
// what is kept is bounded (DraftServiceOptions).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "speculator/accept_stats.h"
#include "speculator/chain_cost.h"
#include "speculator/chain_drafter.h"
#include "speculator/draft_plan.h"
#include "speculator/ngram_index.h"
#include "speculator/step_cost.h"
#include "speculator/traffic_texts.h"
#include "speculator/version_trial.h"

namespace aurora {

// kBehind: repeated text that goes on behind a chain.
enum class DraftArm : uint8_t { kNone, kRequestText, kTrafficText, kChain, kBehind };
inline constexpr size_t kDraftArmCount = 5;

struct DraftServiceOptions {
  int32_t depth_max = kDraftDepthMax;  // of one draft
  bool adaptive = true;     // false: every draft is as deep as it may be, whether it pays or not
  bool ngrams = true;       // draft from repeated text
  float prob_min = 0;       // a chain ends before a token less probable than this
  uint32_t depth_seed = 0;  // 0: off. Depth drawn from 1 to the bound, to test verify batches
  size_t texts_bytes_max = 64u << 20;
  double probe_share = 0.01;  // of the time, to learn whether what is not used would pay by now
  TrialOptions trial;
  int64_t put_away_steps = 20'000;  // how long a version that was worse is not tried again
  uint64_t seed = 1;
};

struct VersionVerdict {
  enum class Kind { kServing, kPutAway } kind = Kind::kServing;
  int64_t version = 0;
  int64_t instead = 0;  // the version that serves now
  double accept_len = 0;
  int64_t steps = 0;
  std::string reason;
};

struct ServiceRequest {
  std::span<const int32_t> prompt;  // empty: not text, nothing is drafted from it
  std::string tenant;
  bool remember = false;  // its text may be drafted from in later requests
  int64_t expires_ms = 0;
  bool greedy = true;
  bool grammar = false;                // bounds what may be sampled
  bool tools = false;                  // a grammar that begins with a tool call
  int32_t depth_max = kDraftDepthMax;  // the request's own bound
  int64_t now_ms = 0;                  // unix time
};

class DraftService {
 public:
  struct Events {  // from the decode thread; may not wait
    std::function<void(const VersionVerdict&)> verdict;
    std::function<void(std::unique_ptr<ChainDrafter>)> retire;
    std::function<void(const Status&)> failed;  // a version could not draft in this step
    std::function<int64_t()> now_us;            // steady clock
  };

  // One slot of the coming step that may be drafted for.
  struct Wish {
    int32_t slot = 0;
    const KeptRows* rows = nullptr;  // nullptr: the chain cannot draft here
    int32_t next = 0;                // newest token, not decoded yet
    int32_t depth_max = 0;
    // Whether the request's grammar lets this token follow those it was asked of before in this
    // step; not asked again behind a no. Empty: nothing is bounded.
    std::function<bool(int32_t token)> allows;
    std::vector<int32_t> tokens;  // out
    std::vector<float> probs;     // out; 1 for repeated text
    int64_t version = 0;          // out: of the chain that drafted, 0: none did
  };

  DraftService(const DraftServiceOptions& options, Events events, int32_t slots);
  ~DraftService();

  StepCost& step_cost() { return step_cost_; }

  // A loaded version. The first serves at once, where it pays, and so does one that was pinned by
  // hand; a later one is tried against the good one. replay_accept_len at replay_depth: what the
  // trainer expects of it, 0: unknown.
  void adopt(std::unique_ptr<ChainDrafter> drafter, double replay_accept_len, int32_t replay_depth,
             bool pinned = false);
  // Which versions would be taken, as it is now: none while one is on trial, the next one waits for
  // its end, or until nothing was drafted with that one for long; none that is no newer than the
  // good one or was put away lately. A pinned one always, unless it serves alone. A copy, for any
  // thread.
  std::function<bool(int64_t version, bool pinned)> wanted() const;
  bool trying() const { return new_ != nullptr; }
  int64_t serving() const;  // the good version, 0: none
  // The one that the request in a slot has fallen to, the good one or the one on trial, 0: none.
  int64_t request_version(int32_t slot);
  void drop_versions();  // the target goes away
  void set_threads(int32_t threads, StepCost::Cores cores);

  void request_start(int32_t slot, const ServiceRequest& request);
  void request_copied(int32_t from, int32_t to);
  void token_served(int32_t slot, int32_t token);
  void request_end(int32_t slot);

  // Fills the wishes' tokens, at most drafts_max altogether. Called once before each decode in
  // which some slot generates.
  void draft(std::span<Wish> wishes, int32_t drafts_max);
  // The target has decoded `rows` rows, prompts' among them.
  void decoded(int32_t rows) { decoded_rows_ = rows; }
  // What the step brought to a slot that was in draft(): accepted drafted tokens, 0 where it had
  // none.
  void stepped(int32_t slot, int32_t accepted);

  struct ArmFigures {
    uint64_t drafted = 0;
    uint64_t accepted = 0;
  };
  using Figures = std::array<ArmFigures, kDraftArmCount>;
  const ArmFigures& figures(DraftArm arm) const { return figures_[static_cast<size_t>(arm)]; }
  Figures request_figures(int32_t slot) const;  // of the request in it

  // Since the start, of the steps that served text and nothing else: their tokens, their time with
  // the drafting, and the time that the same tokens take without drafts, T(slots) / slots each.
  struct Pace {
    double tokens = 0, ms = 0, plain_ms = 0;
  };
  const Pace& pace() const { return pace_; }

 private:
  struct Version {
    std::unique_ptr<ChainDrafter> drafter;
    AcceptStats stats;
  };
  struct Drafted {
    DraftArm arm = DraftArm::kNone;
    int8_t bucket = -1;
  };
  // What repeated text says of the tokens to come, drafted or not: held against what is served, so
  // that an arm is known without being chosen.
  struct Forecast {
    std::vector<int32_t> tokens;
    size_t held = 0;  // tokens that were served as forecast
    int bucket = 0;
    bool open() const { return held < tokens.size(); }
  };
  struct Slot {
    bool active = false;
    int kind = 0;
    int32_t depth_max = kDraftDepthMax;
    VersionTrial::Side side = VersionTrial::kGood;
    std::string tenant;
    bool remember = false;
    int64_t expires_ms = 0;
    int64_t now_ms = 0;
    size_t prompt_tokens = 0;
    std::vector<int32_t> text;          // prompt and answer
    std::unique_ptr<NgramIndex> index;  // over text; null: not text
    size_t index_tokens_max = 0;
    int64_t side_steps = 0;  // since the side was drawn
    Forecast request_forecast, traffic_forecast;

    std::array<ArmFigures, kDraftArmCount> figures{};

    // The step in flight.
    bool in_step = false;
    std::vector<Drafted> drafted;  // by position
    int64_t version = 0;
    double step_ms = 0;  // its share of the modelled step
    TrialBlock block;    // since the last one that the trial was told
  };
  struct Draft;  // one wish's way through a step

  Slot* find(int32_t slot);
  void index_text(Slot& slot);
  void hold_against(AcceptStats& stats, const Slot& slot, Forecast& forecast, int32_t token);
  Version* version_of(const Slot& slot);
  void note_step_time(int64_t now_us);
  std::vector<Draft> open_drafts(std::span<Wish> wishes);
  std::vector<double> expect_repeat(const AcceptStats& stats, Forecast& forecast, const Slot& slot,
                                    const std::vector<int32_t>& tokens, int bucket) const;
  void propose_repeat(Draft& draft);
  void expect_chain(Draft& draft) const;
  void choose(std::vector<Draft>& drafts, int32_t drafts_max);
  double probe_share() const;
  bool probed_sooner(const Draft& one, const Draft& other) const;
  void probe(std::vector<Draft>& drafts);
  double run_chain(Version& version, std::vector<Draft*> drafts);
  bool goes_on(const Draft& draft, size_t active, double next_ms, int rows) const;
  bool take_token(Version& version, Draft& draft) const;
  void go_on_behind(Draft& draft) const;
  void cut(std::vector<Draft>& drafts, int32_t drafts_max, double draft_ms);
  void share_cost(std::vector<Draft>& drafts, double draft_ms);
  void learn(Slot& slot, int32_t accepted);
  void end_block(Slot& slot);
  void judge();
  void end_trial();
  void serve(std::unique_ptr<Version> version, std::string reason);
  VersionTrial::Side draw_side();
  const StepCost& cost() const { return options_.adaptive ? step_cost_ : free_; }
  ChainCost chain_cost(int32_t slots, int32_t rows) const;

  const DraftServiceOptions options_;
  const Events events_;
  StepCost step_cost_;
  const StepCost free_{};  // every step costs the same: all drafts are worth it
  ChainCostMeter chain_cost_;
  AcceptStats request_text_ = AcceptStats::of_matches(), traffic_text_ = AcceptStats::of_matches(),
              behind_ = AcceptStats::of_matches();
  TrafficTexts texts_;
  std::unique_ptr<Version> good_, new_;
  VersionTrial trial_;
  struct PutAway {
    int64_t version;
    int64_t until_step;
  };
  std::vector<PutAway> put_away_;  // at most kPutAwayMax
  std::vector<Slot> slots_;
  std::array<ArmFigures, kDraftArmCount> figures_{};
  Pace pace_;

  int64_t steps_ = 0;
  uint64_t random_;
  double plan_rate_ = 0;        // tokens a millisecond that this step is planned to make
  double probe_credit_ms_ = 0;  // saved up for a probe
  // The step in flight, to be timed when the next one begins.
  int64_t step_begin_us_ = 0;
  int64_t step_draft_us_ = 0;  // that its drafting took
  int32_t step_slots_ = 0;
  int32_t step_tokens_ = 0;   // that it has brought
  int32_t step_rows_ = 0;     // expected
  int32_t decoded_rows_ = 0;  // found
  bool step_clean_ = false;   // nothing else happened in it
};

}  // namespace aurora
