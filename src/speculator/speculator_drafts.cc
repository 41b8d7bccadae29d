// The speculator's way to the draft service: what llama.cpp's server asks for and tells, in the
// service's words. Capture is in speculator.cc.
#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/log.h"
#include "common.h"
#include "sampling.h"
#include "speculative.h"
#include "speculator/measure_steps.h"
#include "speculator/scoped_timer.h"
#include "speculator/speculator.h"

namespace aurora {
namespace {

constexpr uint64_t kWantedEvery = 1024;    // draft() calls: what was put away comes back by and by
constexpr uint64_t kFailuresLogged = 100;  // of so many one
constexpr int32_t kReplayDepth = 3;        // of a manifest's accept length, about
constexpr int64_t kExpirySecondsMax = 1'000'000'000'000;

// Along the draft with a copy of the slot's grammar, which stays where it is.
std::function<bool(int32_t)> allowed_by(const common_sampler* sampler) {
  const llama_sampler* grammar = common_sampler_get_grammar(sampler);
  if (grammar == nullptr) return {};
  return [grammar, copy = std::shared_ptr<llama_sampler>()](int32_t token) mutable {
    if (!copy) copy.reset(llama_sampler_clone(grammar), llama_sampler_free);
    llama_token_data one{token, 1, 0};
    llama_token_data_array alone{&one, 1, -1, false};
    llama_sampler_apply(copy.get(), &alone);
    if (one.logit == -INFINITY) return false;  // to accept it may end the process
    try {
      llama_sampler_accept(copy.get(), token);
    } catch (const std::exception&) {
      return false;
    }
    return true;
  };
}

}  // namespace

void Speculator::start_service(int32_t slots, int32_t draft_max) {
  batch_max_ = static_cast<int32_t>(llama_n_batch(target_));
  DraftServiceOptions options;
  options.depth_max = draft_max;
  options.adaptive = options_.gate;
  options.ngrams = options_.ngrams;
  options.prob_min = options_.draft_prob_min;
  options.depth_seed = options_.depth_seed;
  options.seed = next_request_ + 1;
  DraftService::Events events;
  events.verdict = [this](const VersionVerdict& verdict) { tell(verdict); };
  events.retire = [this](std::unique_ptr<ChainDrafter> drafter) {
    if (loader_) loader_->retire(std::move(drafter));
  };
  events.failed = [this](const Status& status) {
    serve_.drafting_skipped(DraftSkip::kError).add();
    if (failures_++ % kFailuresLogged == 0)
      LOG_WARN("speculator", "no draft in this step: %s", status.to_string().c_str());
  };
  events.now_us = steady_us;
  service_ = std::make_unique<DraftService>(options, std::move(events), slots);
  const std::vector<StepPoint> steps = measure_steps(target_, slots * (1 + draft_max));
  service_->step_cost().measured(steps);
  std::string text;
  for (const StepPoint& point : steps)
    text += " " + std::to_string(point.rows) + ": " + std::to_string(point.ms).substr(0, 5);
  LOG_INFO("speculator", "a step of n rows takes, in ms:%s", text.c_str());
}

void Speculator::start_in_service(const RequestStart& start) {
  ServiceRequest request;
  request.prompt = start.prompt;
  request.tenant = start.labels.tenant;
  request.remember = options_.capture && start.labels.capture && start.labels.rollout_of == 0;
  request.now_ms = unix_ms();
  const int64_t expires_in_s =
      start.labels.expires_in_s > 0 ? start.labels.expires_in_s : options_.expires_in_s;
  if (expires_in_s > 0 && expires_in_s < kExpirySecondsMax)
    request.expires_ms = request.now_ms + expires_in_s * 1000;
  request.greedy = start.temperature <= 0;
  request.grammar = start.grammar;
  request.tools = start.tools;
  request.depth_max = std::min(kDraftDepthMax, start.labels.draft_max);
  service_->request_start(start.slot, request);
}

void Speculator::set_threads(int32_t threads) {
  if (threads == threads_) return;
  threads_ = threads;
  llama_set_n_threads(target_, threads, threads);
  service_->set_threads(threads, threads < threads_max_ ? StepCost::kLent : StepCost::kAll);
}

// While the loader has a draft at work, its core is neither serving's nor the trainer's: two
// threads that meet at barriers on a core and a half take seconds for a token.
void Speculator::use_threads(int32_t threads) {
  const bool loads = loader_ && loader_->works();
  const int32_t cores = options_.cores - (loads ? 1 : 0);
  set_threads(loads ? std::clamp(cores, 1, threads) : threads);
  if (lender_) lender_->publish(CoreSchedule::cores_left(cores, threads_));
}

// A prompt is read with all threads.
void Speculator::begin_serving() { use_threads(threads_max_); }

// Between two steps, never inside one.
void Speculator::lend_cores() {
  if (!serving_some()) return;
  use_threads(lender_ ? schedule_.threads(steady_us(), lender_->wanted()) : threads_max_);
}

void Speculator::tell(const VersionVerdict& said) {
  wanted_changed_ = true;
  const bool away = said.kind == VersionVerdict::Kind::kPutAway;
  if (away) serve_.rollbacks.add();
  LOG_INFO("speculator", "draft %lld %s: %s", static_cast<long long>(said.version),
           away ? "is put away" : "serves", said.reason.c_str());
  happened(away ? "put_away" : "serves", said.version, said.reason);
  serve_.draft_version.set(static_cast<double>(said.instead));
  serve_.draft_on_trial.set(0);
  DraftVerdict verdict;
  verdict.version = said.version;
  verdict.kind = away ? DraftVerdict::Kind::kRolledBack : DraftVerdict::Kind::kServing;
  verdict.reason = said.reason;
  verdict.live_accept_len = said.accept_len;
  verdict.target_steps = static_cast<uint64_t>(said.steps);
  loader_->report(std::move(verdict));
}

void Speculator::adopt_if_ready() {
  loader_->hand_over();
  if (wanted_changed_ || draft_calls_++ % kWantedEvery == 0)
    wanted_changed_ = !loader_->set_wanted(service_->wanted());
  DraftLoader::Ready next = loader_->take();
  if (!next.engine) return;
  serve_.swaps.add();
  schedule_.new_draft(steady_us());
  const int64_t version = next.engine->version();
  {
    ScopedTimer timer(serve_.swap_s);
    next.engine->set_threads(threads_);
    service_->adopt(std::move(next.engine), next.replay_accept_len, kReplayDepth, next.pinned);
  }
  if (service_->trying()) {
    serve_.draft_on_trial.set(static_cast<double>(version));
    happened("trial", version, "is compared with the one in service");
  }
  wanted_changed_ = true;
}

void Speculator::answer_loader() {
  if (!loader_->wants_rows()) return;
  std::vector<std::pair<int32_t, std::vector<KeptRowPtr>>> rows;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.trace.active() && slot.rows != nullptr)
      rows.emplace_back(static_cast<int32_t>(i), slot.rows->rows);
  }
  loader_->give_rows(std::move(rows));
}

// Every slot that may be drafted for in this step.
void Speculator::make_wishes(const std::vector<common_speculative_draft_params>& params) {
  wishes_.clear();
  for (size_t i = 0; i < params.size() && i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.trace.set_draft({}, {});
    slot.drafted_by = 0;
    if (!params[i].drafting || !slot.trace.active() || !slot.speculates() || !drafting_) continue;
    DraftService::Wish wish;
    wish.slot = static_cast<int32_t>(i);
    wish.next = params[i].id_last;
    wish.depth_max = params[i].n_max > 0 ? params[i].n_max : kDraftDepthMax;
    wish.allows = allowed_by(params[i].smpl);
    if (slot.rows != nullptr && !slot.rows->rows.empty() &&
        slot.rows->rows.size() == static_cast<size_t>(params[i].pos0)) {
      wish.rows = options_.chain ? slot.rows : nullptr;
    } else {
      serve_.drafting_skipped(DraftSkip::kRowsMissing).add();
    }
    wishes_.push_back(std::move(wish));
  }
}

// A verify batch that the server has to split fails every request in it: no more rows than there
// are cells, and than one batch takes beside a row for each slot.
void Speculator::draft(std::vector<common_speculative_draft_params>& params) {
  if (target_ == nullptr || loader_ == nullptr) return;
  guard("draft", [&] {
    lend_cores();
    answer_loader();
    adopt_if_ready();
    ScopedTimer timer(serve_.draft_time, serve_.draft_s);
    make_wishes(params);
    const int64_t room = batch_max_ - static_cast<int64_t>(slots_.size());
    const auto drafts_max = static_cast<int32_t>(std::clamp<int64_t>(cells_free_, 0, room));
    if (drafts_max == 0 && !wishes_.empty())
      serve_.drafting_skipped(DraftSkip::kKvShort).add(wishes_.size());
    if (service_->serving() == 0 && !wishes_.empty())
      serve_.drafting_skipped(DraftSkip::kNoDraft).add();
    service_->draft(wishes_, drafts_max);
    hand_out(params);
    show_arms();
    if (live_.due(serve_.generated_tokens.value())) note_live();
  });
}

void Speculator::hand_out(std::vector<common_speculative_draft_params>& params) {
  for (DraftService::Wish& wish : wishes_) {
    if (wish.tokens.empty()) continue;
    const auto index = static_cast<size_t>(wish.slot);
    serve_.num_drafts.add();
    serve_.num_draft_tokens.add(wish.tokens.size());
    *params[index].result = wish.tokens;
    slots_[index].drafted_by = wish.version;
    slots_[index].figures.drafted(wish.tokens.size(), wish.version);
    slots_[index].trace.set_draft(std::move(wish.tokens), std::move(wish.probs));
  }
}

void Speculator::show_arms() {
  static_assert(kDraftArmCount == kArmNameCount + 1, "kNone has no name in the metrics");
  for (size_t arm = 1; arm < kDraftArmCount; ++arm) {
    const DraftService::ArmFigures& now = service_->figures(static_cast<DraftArm>(arm));
    serve_.arm_drafted(arm - 1).add(now.drafted - shown_[arm].drafted);
    serve_.arm_accepted(arm - 1).add(now.accepted - shown_[arm].accepted);
    shown_[arm] = now;
  }
}

}  // namespace aurora
