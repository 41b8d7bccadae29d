// One step of the service: what could be drafted, what is worth it, the drafting itself.
#include <algorithm>
#include <numeric>

#include "speculator/draft_service.h"

namespace aurora {
namespace {

constexpr double kProbeStepsMax = 64;  // steps' worth of time that is saved up at most
constexpr double kProbeTrial = 2;      // times the share while a trial knows nothing
constexpr double kProbeDebtSteps = 4;
constexpr int32_t kRowsAtHand = 16;
constexpr double kSurvivalMin = 0.01;       // a token less likely to be reached is not looked at
constexpr int64_t kStepUsMax = 10'000'000;  // longer: the machine slept, not a step

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

// One wish's way through the step.
struct DraftService::Draft {
  Wish* wish = nullptr;
  Slot* slot = nullptr;
  Version* version = nullptr;  // that can draft here, or null
  int32_t bound = 0;
  int32_t rows_missing = 0;
  SlotChances chances;
  std::vector<int32_t> repeat;  // what repeated text proposes
  DraftArm repeat_arm = DraftArm::kNone;
  int repeat_bucket = 0;
  bool chained = false;
  bool probed = false;     // verified even where it is not expected to pay
  bool forbidden = false;  // the grammar has refused a token: it ends there
  ChainWish chain;
  // The draft as it stands, and the chance that each token is reached and taken.
  std::vector<Drafted> marks;
  std::vector<double> survival;

  bool allows(int32_t token) {
    if (!forbidden && wish->allows) forbidden = !wish->allows(token);
    return !forbidden;
  }
};

// The step before this one is over: what it took, if it was a step of generating slots and nothing
// else.
void DraftService::note_step_time(int64_t now_us) {
  const int64_t took = now_us - step_begin_us_;
  if (step_clean_ && step_rows_ > 0 && decoded_rows_ == step_rows_ && took < kStepUsMax) {
    step_cost_.observe(step_rows_, static_cast<double>(took) / 1000);
    pace_.tokens += step_tokens_;
    pace_.ms += static_cast<double>(took + step_draft_us_) / 1000;
    pace_.plain_ms += step_cost_.ms(step_slots_) * step_tokens_ / step_slots_;
  }
  step_clean_ = false;
  decoded_rows_ = 0;
  if (step_rows_ > 0)
    probe_credit_ms_ = std::min(probe_credit_ms_ + probe_share() * step_cost_.ms(step_rows_),
                                kProbeStepsMax * step_cost_.ms(1));
}

void DraftService::draft(std::span<Wish> wishes, int32_t drafts_max) {
  const int64_t begin_us = events_.now_us();
  note_step_time(begin_us);
  ++steps_;
  for (AcceptStats* stats : {&request_text_, &traffic_text_, &behind_}) stats->tick();
  for (Version* version : {good_.get(), new_.get()})
    if (version) version->stats.tick();
  std::vector<Draft> drafts = open_drafts(wishes);
  for (Draft& draft : drafts) {
    propose_repeat(draft);
    expect_chain(draft);
  }
  choose(drafts, drafts_max);
  double chain_ms = 0;
  for (Version* version : {good_.get(), new_.get()}) {
    std::vector<Draft*> group;
    for (Draft& draft : drafts)
      if (draft.chained && draft.version == version) group.push_back(&draft);
    if (!group.empty()) chain_ms += run_chain(*version, std::move(group));
  }
  cut(drafts, drafts_max, chain_ms);
  share_cost(drafts, chain_ms);
  step_begin_us_ = events_.now_us();
  step_draft_us_ = step_begin_us_ - begin_us;
  step_slots_ = static_cast<int32_t>(drafts.size());
  step_tokens_ = 0;
  step_clean_ = true;
}

std::vector<DraftService::Draft> DraftService::open_drafts(std::span<Wish> wishes) {
  std::vector<Draft> drafts;
  drafts.reserve(wishes.size());
  for (Wish& wish : wishes) {
    wish.tokens.clear();
    wish.probs.clear();
    wish.version = 0;
    Slot* slot = find(wish.slot);
    if (slot == nullptr || !slot->active) continue;
    slot->in_step = true;
    slot->drafted.clear();
    Draft draft;
    draft.wish = &wish;
    draft.slot = slot;
    draft.bound = std::min({wish.depth_max, slot->depth_max, options_.depth_max, kDraftDepthMax});
    if (options_.depth_seed != 0 && draft.bound > 1) {
      random_ = (random_ ^ options_.depth_seed) * 6364136223846793005ull + 1442695040888963407ull;
      draft.bound = 1 + static_cast<int32_t>((random_ >> 33) % static_cast<uint64_t>(draft.bound));
    }
    if (wish.rows != nullptr && draft.bound > 0) draft.version = version_of(*slot);
    drafts.push_back(std::move(draft));
  }
  return drafts;
}

// A longer match begins a forecast of its own; else the one that is open goes on until it is
// refuted.
std::vector<double> DraftService::expect_repeat(const AcceptStats& stats, Forecast& forecast,
                                                const Slot& slot,
                                                const std::vector<int32_t>& tokens,
                                                int bucket) const {
  if (!forecast.open() || forecast.bucket != bucket) forecast = {tokens, 0, bucket};
  std::vector<double> survival;
  double reached = 1;
  for (size_t i = 0; i < tokens.size(); ++i) {
    reached *= stats.rate(slot.kind, static_cast<int>(i), bucket);
    if (reached < kSurvivalMin) break;
    survival.push_back(reached);
  }
  return survival;
}

// From this request's own text or from past traffic, whichever is expected to go further.
void DraftService::propose_repeat(Draft& draft) {
  Slot& slot = *draft.slot;
  if (!slot.index || draft.bound <= 0 || slot.text.empty() || slot.text.back() != draft.wish->next)
    return;
  const size_t tail_tokens = std::min<size_t>(slot.text.size(), NgramIndex::kMatchMax);
  const std::span<const int32_t> tail = std::span(slot.text).last(tail_tokens);
  const auto count = static_cast<size_t>(draft.bound);
  if (const NgramIndex::Match match = slot.index->find(tail); match.length > 0) {
    slot.index->copy(match.next, count, draft.repeat);
    draft.repeat_arm = DraftArm::kRequestText;
    draft.repeat_bucket = match_bucket(match.length);
    draft.chances.repeat = expect_repeat(request_text_, slot.request_forecast, slot, draft.repeat,
                                         draft.repeat_bucket);
  }
  std::vector<int32_t> others;
  const int length = texts_.find(tail, slot.tenant, slot.now_ms, count, others);
  if (length == 0) return;
  const int bucket = match_bucket(length);
  std::vector<double> survival =
      expect_repeat(traffic_text_, slot.traffic_forecast, slot, others, bucket);
  if (sum(survival) <= sum(draft.chances.repeat)) return;
  draft.repeat = std::move(others);
  draft.repeat_arm = DraftArm::kTrafficText;
  draft.repeat_bucket = bucket;
  draft.chances.repeat = std::move(survival);
}

void DraftService::expect_chain(Draft& draft) const {
  if (draft.version == nullptr) return;
  draft.rows_missing = draft.version->drafter->rows_missing(draft.wish->slot, *draft.wish->rows);
  double reached = 1;
  for (int32_t i = 0; i < draft.bound; ++i) {
    reached *= draft.version->stats.rate(draft.slot->kind, i);
    draft.chances.chain.push_back(reached);
    if (reached < kSurvivalMin) break;
  }
}

ChainCost DraftService::chain_cost(int32_t slots, int32_t rows) const {
  return options_.adaptive ? chain_cost_.expected(slots, rows, step_cost_.ms(1)) : ChainCost{};
}

void DraftService::choose(std::vector<Draft>& drafts, int32_t drafts_max) {
  std::vector<SlotChances> chances;
  int32_t able = 0, rows = 0;
  for (Draft& draft : drafts) {
    chances.push_back(draft.chances);
    if (draft.version == nullptr) continue;
    ++able;
    rows += draft.rows_missing;
  }
  const StepPlan plan = plan_step(chances, drafts_max, chain_cost(std::max(able, 1), rows), cost());
  plan_rate_ = plan.rate;
  for (size_t i = 0; i < drafts.size(); ++i) drafts[i].chained = plan.chain[i];
  if (options_.adaptive && drafts_max > 0) probe(drafts);
  for (Draft& draft : drafts) {
    if (draft.chained) continue;
    size_t depth = 0;
    while (depth < draft.chances.repeat.size() && draft.allows(draft.repeat[depth])) ++depth;
    draft.repeat.resize(depth);
    draft.survival = draft.chances.repeat;
    draft.survival.resize(depth);
    draft.marks.assign(depth, {draft.repeat_arm, static_cast<int8_t>(draft.repeat_bucket)});
  }
}

// A trial that has seen no drafts yet may take more: it is short.
double DraftService::probe_share() const {
  return options_.probe_share * (new_ && !trial_.drafted() ? kProbeTrial : 1);
}

// On trial the version that was drafted with less; else the slot whose rows cost least.
bool DraftService::probed_sooner(const Draft& one, const Draft& other) const {
  const double first = trial_.first_tried(one.slot->side);
  const double second = trial_.first_tried(other.slot->side);
  if (new_ && first != second) return first < second;
  return one.rows_missing < other.rows_missing;
}

// What does not pay is tried now and then, in a small share of the time: traffic changes, and the
// next version may have learnt it.
void DraftService::probe(std::vector<Draft>& drafts) {
  if (drafts.empty() ||
      std::any_of(drafts.begin(), drafts.end(), [](const Draft& d) { return d.chained; }))
    return;
  const auto slots = static_cast<int>(drafts.size());
  const double row_ms = step_cost_.ms(slots + 1) - step_cost_.ms(slots);
  Draft* nearest = nullptr;
  for (Draft& draft : drafts) {
    if (!draft.version || !draft.repeat.empty()) continue;  // repeated text drafts there
    if (!nearest || probed_sooner(draft, *nearest)) nearest = &draft;
  }
  if (nearest == nullptr) return;
  const ChainCost chain = chain_cost(1, nearest->rows_missing);
  const double price = chain.first_ms + chain.fill_ms + row_ms;
  // Building a request's rows is most of a price: a trial that knows nothing yet stays where they
  // are built, on credit.
  const bool stays = new_ && !trial_.drafted() && nearest->rows_missing <= kRowsAtHand;
  if (probe_credit_ms_ + (stays ? kProbeDebtSteps * step_cost_.ms(1) : 0) < price) return;
  probe_credit_ms_ -= price;
  nearest->chained = nearest->probed = true;
}

// The chain's newest token, with what its own probability says of it. One that the grammar forbids
// was drafted for nothing: the version is known to be refused there, the token itself not tried.
bool DraftService::take_token(Version& version, Draft& draft) const {
  const auto position = static_cast<int>(draft.marks.size());
  if (!draft.allows(draft.chain.tokens.back())) {
    version.stats.observe(draft.slot->kind, position, -1, false);
    if (position == 0) ++draft.slot->block.first_tried;
    return false;
  }
  const int bucket = prob_bucket(draft.chain.probs.back());
  const double before = draft.survival.empty() ? 1 : draft.survival.back();
  draft.marks.push_back({DraftArm::kChain, static_cast<int8_t>(bucket)});
  draft.survival.push_back(before * version.stats.rate(draft.slot->kind, position, bucket));
  return true;
}

// Is one more token of this chain expected to bring more than its time is worth?
bool DraftService::goes_on(const Draft& draft, size_t active, double next_ms, int rows) const {
  const auto depth = static_cast<int32_t>(draft.marks.size());
  if (depth >= draft.bound) return false;
  if (!options_.adaptive) return true;
  const double gain = draft.survival.back() * draft.version->stats.rate(draft.slot->kind, depth);
  const double ms = next_ms / static_cast<double>(active) + cost().ms(rows + 1) - cost().ms(rows);
  return gain > plan_rate_ * ms;
}

// Milliseconds as modelled: what the trial compares is free of the machine's noise.
double DraftService::run_chain(Version& version, std::vector<Draft*> drafts) {
  const std::vector<Draft*> all = drafts;
  std::vector<ChainWish*> wishes;
  int32_t rows = 0;
  for (Draft* draft : drafts) {
    draft->chain.slot = draft->wish->slot;
    draft->chain.rows = draft->wish->rows;
    draft->chain.next = draft->wish->next;
    rows += draft->rows_missing;
    wishes.push_back(&draft->chain);
  }
  const auto slots = static_cast<int32_t>(drafts.size());
  const auto began = [&](int64_t since) {
    return static_cast<double>(events_.now_us() - since) / 1000;
  };
  int64_t since = events_.now_us();
  Status status = version.drafter->begin(wishes);
  chain_cost_.first(slots, rows, began(since), step_cost_.ms(1));
  const ChainCost modelled = chain_cost(slots, rows);
  double ms = modelled.first_ms + modelled.fill_ms;
  int step_rows = slots;
  while (status) {
    std::vector<Draft*> took, active;
    for (Draft* draft : drafts) {
      if (draft->chain.tokens.size() <= draft->marks.size()) continue;  // rows were missing
      if (draft->chain.probs.back() < options_.prob_min || !take_token(version, *draft)) {
        draft->chain.tokens.pop_back();
        draft->chain.probs.pop_back();
        continue;
      }
      ++step_rows;
      took.push_back(draft);
    }
    for (Draft* draft : took)
      if (goes_on(*draft, took.size(), modelled.next_ms, step_rows)) active.push_back(draft);
    if (active.empty()) break;
    wishes.clear();
    for (Draft* draft : active) wishes.push_back(&draft->chain);
    since = events_.now_us();
    status = version.drafter->next(wishes);
    chain_cost_.next(static_cast<int32_t>(active.size()), began(since), step_cost_.ms(1));
    ms += modelled.next_ms;
    drafts = std::move(active);
  }
  if (!status) {
    events_.failed(status);
    for (Draft* draft : all) {
      draft->chain = {};
      draft->marks.clear();
      draft->survival.clear();
    }
  }
  return ms;
}

// Repeated text behind the chain: rows for free, no drafting time.
void DraftService::go_on_behind(Draft& draft) const {
  const Slot& slot = *draft.slot;
  const size_t depth = draft.chain.tokens.size();
  if (!slot.index || depth == 0 || static_cast<int32_t>(depth) >= draft.bound) return;
  std::vector<int32_t> tail(slot.text.end() - static_cast<std::ptrdiff_t>(std::min<size_t>(
                                                  slot.text.size(), NgramIndex::kMatchMax)),
                            slot.text.end());
  tail.insert(tail.end(), draft.chain.tokens.begin(), draft.chain.tokens.end());
  const NgramIndex::Match match = slot.index->find(tail);
  if (match.length == 0) return;
  std::vector<int32_t> more;
  slot.index->copy(match.next, static_cast<size_t>(draft.bound) - depth, more);
  const int bucket = match_bucket(match.length);
  double reached = draft.survival.back();
  for (size_t i = 0; i < more.size(); ++i) {
    reached *= behind_.rate(slot.kind, static_cast<int>(i), bucket);
    if (reached < kSurvivalMin || !draft.allows(more[i])) break;
    draft.chain.tokens.push_back(more[i]);
    draft.chain.probs.push_back(1);
    draft.marks.push_back({DraftArm::kBehind, static_cast<int8_t>(bucket)});
    draft.survival.push_back(reached);
  }
}

// The rows of the verify step go to the tokens most likely to be taken.
void DraftService::cut(std::vector<Draft>& drafts, int32_t drafts_max, double draft_ms) {
  std::vector<std::vector<double>> survival;
  for (Draft& draft : drafts) {
    if (draft.chained && options_.adaptive) go_on_behind(draft);
    survival.push_back(draft.survival);
  }
  const RowAllocation rows = allocate_rows(survival, drafts_max, draft_ms, cost());
  step_rows_ = static_cast<int32_t>(drafts.size());
  for (size_t i = 0; i < drafts.size(); ++i) {
    Draft& draft = drafts[i];
    auto depth = static_cast<size_t>(rows.depth[i]);
    if (draft.probed && depth == 0 && !draft.marks.empty()) depth = 1;
    auto& tokens = draft.chained ? draft.chain.tokens : draft.repeat;
    tokens.resize(depth);
    draft.marks.resize(depth);
    draft.wish->probs.assign(depth, 1.0f);
    if (draft.chained) std::copy_n(draft.chain.probs.begin(), depth, draft.wish->probs.begin());
    draft.wish->version = draft.chained ? draft.version->drafter->version() : 0;
    draft.slot->version = draft.wish->version;
    draft.slot->drafted = draft.marks;
    draft.wish->tokens = std::move(tokens);
    step_rows_ += static_cast<int32_t>(depth);
  }
}

// The modelled step's time by slot: its row, its drafted rows, its part of the drafting.
void DraftService::share_cost(std::vector<Draft>& drafts, double draft_ms) {
  const auto slots = static_cast<int32_t>(drafts.size());
  if (slots == 0) return;
  const auto chained = static_cast<double>(
      std::count_if(drafts.begin(), drafts.end(), [](const Draft& d) { return d.chained; }));
  const int32_t drafted = step_rows_ - slots;
  const double single = step_cost_.ms(slots);
  const double row = drafted > 0 ? (step_cost_.ms(step_rows_) - single) / drafted : 0;
  for (Draft& draft : drafts) {
    draft.slot->step_ms = single / slots + row * static_cast<double>(draft.marks.size());
    if (draft.chained) draft.slot->step_ms += draft_ms / chained;
  }
}

}  // namespace aurora
