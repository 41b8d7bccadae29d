// Requests, versions and verdicts; draft_step.cc has what happens in a step.
#include "speculator/draft_service.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace aurora {
namespace {

constexpr int64_t kBlockSteps = 16;
constexpr int64_t kSideStepsMax = 96;  // in a trial a long request draws its version again
constexpr size_t kPutAwayMax = 64;
constexpr double kStatsCarried = 0.1;  // of what is known of the version before
constexpr double kReplayTries = 24;    // as sure is the trainer's replay
constexpr size_t kIndexTokensMin = 1024;

// The acceptance of a token for which drafts of `depth` have this accept length:
// sum_{k = 0}^{depth} a^k = L.
double acceptance_of(double accept_len, int32_t depth) {
  if (accept_len <= 1 || depth <= 0) return 0.5;
  double low = 0, high = 0.98;
  for (int i = 0; i < 30; ++i) {
    const double a = (low + high) / 2;
    double sum = 0;
    for (int32_t k = 0; k <= depth; ++k) sum += std::pow(a, k);
    (sum < accept_len ? low : high) = a;
  }
  return low;
}

// Below kRequestKinds.
int kind_of(const ServiceRequest& request) {
  const int bound = request.tools ? 2 : request.grammar ? 1 : 0;
  return (request.greedy ? 0 : 1) + 2 * bound;
}

}  // namespace

DraftService::DraftService(const DraftServiceOptions& options, Events events, int32_t slots)
    : options_(options),
      events_(std::move(events)),
      texts_(options.ngrams ? options.texts_bytes_max : 0),
      trial_(options.trial),
      slots_(static_cast<size_t>(slots)),
      random_(options.seed) {}

DraftService::~DraftService() { drop_versions(); }

DraftService::Slot* DraftService::find(int32_t slot) {
  return slot >= 0 && static_cast<size_t>(slot) < slots_.size() ? &slots_[static_cast<size_t>(slot)]
                                                                : nullptr;
}

// --- versions

int64_t DraftService::serving() const { return good_ ? good_->drafter->version() : 0; }

std::function<bool(int64_t, bool)> DraftService::wanted() const {
  std::vector<int64_t> away;
  for (const PutAway& one : put_away_)
    if (one.until_step > steps_) away.push_back(one.version);
  const bool trying = new_ && !trial_.overdue();
  const int64_t newest = new_ ? new_->drafter->version() : serving();
  const int64_t alone = new_ ? 0 : serving();
  return [trying, newest, alone, away = std::move(away)](int64_t version, bool pinned) {
    if (pinned) return version != alone;
    return !trying && version > newest &&
           std::find(away.begin(), away.end(), version) == away.end();
  };
}

void DraftService::adopt(std::unique_ptr<ChainDrafter> drafter, double replay_accept_len,
                         int32_t replay_depth, bool pinned) {
  CHECK(drafter != nullptr);
  auto version = std::make_unique<Version>();
  version->drafter = std::move(drafter);
  const double prior = acceptance_of(replay_accept_len, replay_depth);
  version->stats = good_ ? AcceptStats::continued(good_->stats, kStatsCarried, prior, kReplayTries)
                         : AcceptStats::of_chain(prior, kReplayTries);
  if (!good_ || !options_.adaptive || pinned) {
    end_trial();
    return serve(std::move(version), pinned  ? "pinned by hand"
                                     : good_ ? "the newest serves"
                                             : "the first draft");
  }
  end_trial();
  new_ = std::move(version);
  trial_.begin();
  for (Slot& slot : slots_) slot.block = {};  // what they made before was at another time
}

void DraftService::serve(std::unique_ptr<Version> version, std::string reason) {
  if (good_) events_.retire(std::move(good_->drafter));
  good_ = std::move(version);
  VersionVerdict verdict;
  verdict.version = verdict.instead = serving();
  verdict.reason = std::move(reason);
  verdict.accept_len = trial_.accept_len(VersionTrial::kNew);
  verdict.steps = trial_.steps(VersionTrial::kNew);
  events_.verdict(verdict);
}

// Without a verdict: all slots are with the good version again.
void DraftService::end_trial() {
  if (new_) events_.retire(std::move(new_->drafter));
  new_.reset();
  for (Slot& slot : slots_) slot.side = VersionTrial::kGood;
}

void DraftService::judge() {
  if (!new_) return;
  const TrialAdvice advice = trial_.advice();
  if (advice == TrialAdvice::kGoOn) return;
  if (advice == TrialAdvice::kPromote) {
    std::unique_ptr<Version> version = std::move(new_);
    end_trial();
    return serve(std::move(version), trial_.explain());
  }
  VersionVerdict verdict;
  verdict.kind = VersionVerdict::Kind::kPutAway;
  verdict.version = new_->drafter->version();
  verdict.instead = serving();
  verdict.reason = trial_.explain();
  verdict.accept_len = trial_.accept_len(VersionTrial::kNew);
  verdict.steps = trial_.steps(VersionTrial::kNew);
  if (put_away_.size() >= kPutAwayMax) put_away_.erase(put_away_.begin());
  put_away_.push_back({verdict.version, steps_ + options_.put_away_steps});
  end_trial();
  events_.verdict(verdict);
}

void DraftService::drop_versions() {
  end_trial();
  if (good_) events_.retire(std::move(good_->drafter));
  good_.reset();
}

void DraftService::set_threads(int32_t threads, StepCost::Cores cores) {
  for (Version* version : {good_.get(), new_.get()})
    if (version) version->drafter->set_threads(threads);
  step_cost_.use(cores);
  step_clean_ = false;
}

// One request in two meets the new version; one in four while that looks worse, none while there is
// nothing to compare it with.
VersionTrial::Side DraftService::draw_side() {
  if (!new_) return VersionTrial::kGood;
  random_ = random_ * 6364136223846793005ull + 1442695040888963407ull;
  const bool looks_worse = trial_.steps(VersionTrial::kNew) >= options_.trial.steps_min &&
                           trial_.rate(VersionTrial::kNew) < trial_.rate(VersionTrial::kGood);
  if (trial_.steps(VersionTrial::kNew) > trial_.steps(VersionTrial::kGood) + kSideStepsMax)
    return VersionTrial::kGood;
  const uint64_t one_in = looks_worse ? 4 : 2;
  return (random_ >> 33) % one_in == 0 ? VersionTrial::kNew : VersionTrial::kGood;
}

DraftService::Version* DraftService::version_of(const Slot& slot) {
  return slot.side == VersionTrial::kNew && new_ ? new_.get() : good_.get();
}

int64_t DraftService::request_version(int32_t slot_id) {
  const Slot* slot = find(slot_id);
  const Version* version = slot ? version_of(*slot) : nullptr;
  return version ? version->drafter->version() : 0;
}

// --- requests

void DraftService::request_start(int32_t slot_id, const ServiceRequest& request) {
  Slot* slot = find(slot_id);
  if (slot == nullptr) return;
  *slot = Slot{};
  step_clean_ = false;
  slot->active = true;
  slot->kind = kind_of(request);
  slot->depth_max = request.depth_max;
  slot->side = draw_side();
  slot->tenant = request.tenant;
  slot->remember = request.remember && options_.ngrams;
  slot->expires_ms = request.expires_ms;
  slot->now_ms = request.now_ms;
  slot->prompt_tokens = request.prompt.size();
  slot->text.assign(request.prompt.begin(), request.prompt.end());
  if (options_.ngrams && !slot->text.empty()) index_text(*slot);
}

// Anew, with twice the room: text grows by one token a call.
void DraftService::index_text(Slot& slot) {
  slot.index_tokens_max = std::max(kIndexTokensMin, 2 * slot.text.size());
  slot.index = std::make_unique<NgramIndex>(slot.index_tokens_max);
  for (const int32_t token : slot.text) slot.index->append(token);
}

void DraftService::request_copied(int32_t from, int32_t to) {
  Slot *parent = find(from), *child = find(to);
  if (parent == nullptr || child == nullptr || !parent->active) return;
  ServiceRequest same;
  const std::vector<int32_t> text = parent->text;
  same.prompt = std::span(text).first(std::min(parent->prompt_tokens, text.size()));
  same.tenant = parent->tenant;
  same.remember = parent->remember;
  same.expires_ms = parent->expires_ms;
  same.depth_max = parent->depth_max;
  same.now_ms = parent->now_ms;
  request_start(to, same);
  child->kind = parent->kind;
}

void DraftService::token_served(int32_t slot_id, int32_t token) {
  Slot* slot = find(slot_id);
  if (slot == nullptr || !slot->index) return;
  hold_against(request_text_, *slot, slot->request_forecast, token);
  hold_against(traffic_text_, *slot, slot->traffic_forecast, token);
  slot->text.push_back(token);
  if (slot->text.size() > slot->index_tokens_max) return index_text(*slot);
  slot->index->append(token);
}

void DraftService::hold_against(AcceptStats& stats, const Slot& slot, Forecast& forecast,
                                int32_t token) {
  if (!forecast.open()) return;
  const bool held = forecast.tokens[forecast.held] == token;
  stats.observe(slot.kind, static_cast<int>(forecast.held), forecast.bucket, held);
  forecast.held = held ? forecast.held + 1 : forecast.tokens.size();
}

void DraftService::request_end(int32_t slot_id) {
  Slot* slot = find(slot_id);
  if (slot == nullptr || !slot->active) return;
  step_clean_ = false;
  end_block(*slot);
  if (slot->remember && slot->index && slot->text.size() > slot->prompt_tokens) {
    const std::span<const int32_t> text(slot->text);
    texts_.add(text.first(slot->prompt_tokens), text.subspan(slot->prompt_tokens), slot->tenant,
               slot->expires_ms);
  }
  *slot = Slot{};
}

// --- what a step brought

void DraftService::stepped(int32_t slot_id, int32_t accepted) {
  Slot* slot = find(slot_id);
  if (slot == nullptr || !slot->in_step) return;
  slot->in_step = false;
  learn(*slot, accepted);
  step_tokens_ += accepted + 1;
  slot->block.tokens += accepted + 1;
  slot->block.ms += slot->step_ms;
  ++slot->block.steps;
  ++slot->side_steps;
  slot->drafted.clear();
  if (slot->block.steps >= kBlockSteps) end_block(*slot);
  if (new_ && slot->side_steps >= kSideStepsMax) {
    end_block(*slot);
    slot->side = draw_side();
    slot->side_steps = 0;
  }
}

void DraftService::learn(Slot& slot, int32_t accepted) {
  Version* version = version_of(slot);
  if (version != nullptr && version->drafter->version() != slot.version) version = nullptr;
  int position = 0;  // in the draft of its arm
  for (size_t i = 0; i < slot.drafted.size(); ++i, ++position) {
    const Drafted& token = slot.drafted[i];
    const bool taken = i < static_cast<size_t>(accepted);
    const auto arm = static_cast<size_t>(token.arm);
    for (ArmFigures* figures : {&figures_[arm], &slot.figures[arm]}) {
      ++figures->drafted;
      if (taken) ++figures->accepted;
    }
    if (i > static_cast<size_t>(accepted)) continue;  // stood behind a refused one: says nothing
    if (token.arm == DraftArm::kBehind && slot.drafted[i - 1].arm != DraftArm::kBehind)
      position = 0;
    if (token.arm == DraftArm::kBehind) behind_.observe(slot.kind, position, token.bucket, taken);
    if (token.arm != DraftArm::kChain || !version) continue;
    version->stats.observe(slot.kind, position, token.bucket, taken);
    if (position > 0) continue;
    ++slot.block.first_tried;
    slot.block.first_taken += taken ? 1 : 0;
  }
}

DraftService::Figures DraftService::request_figures(int32_t slot) const {
  const auto at = static_cast<size_t>(slot);
  return slot >= 0 && at < slots_.size() ? slots_[at].figures : Figures{};
}

void DraftService::end_block(Slot& slot) {
  if (new_) trial_.observe(slot.side, slot.block);
  slot.block = {};
  judge();
}

}  // namespace aurora
