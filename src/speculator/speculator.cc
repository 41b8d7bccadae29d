#include "speculator/speculator.h"

#include <algorithm>
#include <random>

#include "base/clock.h"
#include "base/files.h"
#include "base/hash_share.h"
#include "base/log.h"
#include "common.h"
#include "llama-ext.h"
#include "speculative.h"
#include "speculator/request_labels.h"
#include "trace/taps.h"

namespace aurora {
namespace {

class ScopedTimer {
 public:
  explicit ScopedTimer(TimeCounter& counter)
      : counter_(counter), begin_(std::chrono::steady_clock::now()) {}
  ~ScopedTimer() {
    const auto spent = std::chrono::steady_clock::now() - begin_;
    counter_.add_ns(static_cast<uint64_t>(std::chrono::nanoseconds(spent).count()));
  }

 private:
  TimeCounter& counter_;
  const std::chrono::steady_clock::time_point begin_;
};

void cut_rows(KeptRows& kept, size_t count) {
  if (kept.rows.size() > count) kept.rows.resize(count);
  if (!kept.rows.empty() && kept.rows.back() == nullptr) kept.clear();  // none of them is known
}

// Enough for a draft to see what the text is about; a step of so many rows is felt by nobody.
constexpr int32_t kRebuiltRows = 256;

}  // namespace

Speculator::Speculator(SpeculatorOptions options)
    : options_(std::move(options)),
      next_request_(static_cast<uint64_t>(std::random_device{}()) << 32) {}

Speculator::~Speculator() { detach(); }

// Whatever throws inside is ours to count: a false or an exception here would abort every slot of
// the server.
void Speculator::guard(const char* where, const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    serve_.speculator_errors.add();
    LOG_ERROR("speculator", "%s: %s", where, error.what());
  }
}

Speculator::Slot* Speculator::find(int32_t slot) {
  return slot >= 0 && static_cast<size_t>(slot) < slots_.size() ? &slots_[static_cast<size_t>(slot)]
                                                                : nullptr;
}

std::string Speculator::attach(llama_context* target, int32_t slots, int32_t draft_max) {
  const llama_model* model = llama_get_model(target);
  if (llama_model_is_recurrent(model) || llama_model_is_hybrid(model)) {
    return "aurora: this target has recurrent layers, which verify a draft twice; serve it with "
           "llama-server";
  }
  if (llama_model_n_layer(model) < 4)
    return "aurora: a target needs at least 4 layers to be tapped";
  target_ = target;
  depth_ = DraftDepth(draft_max, options_.depth_seed);
  hidden_ = llama_model_n_embd(model);
  vocab_ = llama_vocab_n_tokens(llama_model_get_vocab(model));
  slots_.clear();
  slots_.resize(static_cast<size_t>(slots));
  const VerifyCost cost = measure_verify_cost(target, draft_max);
  default_tap_layers(llama_model_n_layer(model), tap_layers_);
  for (const int32_t layer : tap_layers_)
    llama_set_embeddings_layer_inp(target, static_cast<uint32_t>(layer), true);

  const double pays_above = cost.pays_above(options_.draft_share);
  LOG_INFO(
      "speculator",
      "target step %.1f ms, verify step of %d rows %.1f ms: a draft pays above accept length %.2f",
      cost.single_ms, draft_max + 1, cost.verify_ms, pays_above);
  if (options_.gate) pays_live_.set_threshold(pays_above);
  if (Status status = start_writer(); !status) {
    detach();
    return "aurora: " + status.message();
  }
  DraftLoaderOptions loader;
  loader.registry_dir = options_.registry_dir;
  loader.target = options_.target;
  loader.target_path = options_.target_path;
  loader.gate = options_.gate;
  loader.pays_above = pays_above;
  loader.threads = llama_n_threads(target);
  loader_ = std::make_unique<DraftLoader>(loader, DraftHost{target, slots, loader.threads}, serve_);
  return "";
}

// A disk that refuses costs the capture and nothing else; a file that is not ours is a mistake to
// show at once.
Status Speculator::start_writer() {
  if (!options_.capture) return Status::ok();
  TraceBufferOptions buffer_options;
  buffer_options.dir = options_.traces_dir;
  buffer_options.bytes_max = options_.buffer_bytes_max;
  auto buffer = open_trace_buffer(options_.buffer_url, buffer_options);
  if (!buffer) {
    const StatusCode code = buffer.status().code();
    if (code == StatusCode::kCorrupt || code == StatusCode::kInvalid) return buffer.status();
    LOG_ERROR("speculator", "serving goes on without capture: %s",
              buffer.status().to_string().c_str());
    return Status::ok();
  }
  TraceWriterOptions writer;
  writer.target = options_.target;
  writer.hidden = hidden_;
  writer.expires_in_s = options_.expires_in_s;
  std::copy_n(tap_layers_, kTapCount, writer.tap_layers);
  writer_ = std::make_unique<TraceWriter>(std::move(*buffer), writer, serve_);
  return Status::ok();
}

void Speculator::detach() {
  loader_.reset();
  engine_.reset();
  last_good_.reset();
  writer_.reset();
  target_ = nullptr;
  slots_.clear();
}

std::string Speculator::labels_from(const std::map<std::string, std::string>& headers,
                                    RequestLabels& labels) const {
  const auto parsed = parse_request_labels(headers);
  if (!parsed) return parsed.status().message();
  labels = *parsed;
  return "";
}

int32_t Speculator::positions_to_keep(int32_t kept, int32_t unmoved, KeptRows* rows) {
  cut_rows(*rows, static_cast<size_t>(unmoved));
  const auto known_end = static_cast<int32_t>(rows->rows.size());
  return known_end >= kept ? kept : std::max(known_end, kept - kRebuiltRows);
}

void Speculator::request_start(const RequestStart& start, KeptRows* rows) {
  Slot* slot = find(start.slot);
  if (slot == nullptr) return;
  guard("request_start", [&] {
    slot->rows = rows;
    slot->rows_whole = !start.multimodal && !start.lora;
    if (!slot->rows_whole) rows->clear();
    cut_rows(*rows, static_cast<size_t>(start.kept));
    // Rollouts are of requests that were sampled.
    slot->sampled =
        start.labels.rollout_of != 0 || hash_share(next_request_++) < options_.capture_rate;
    const bool capture =
        writer_ && start.completion && start.labels.capture && slot->rows_whole && slot->sampled;
    slot->trace.start(start, capture, options_.law_count);
    slot->pays = !engine_ || !start.completion || !slot->speculates() || pays_live_.ask();
  });
}

// A child of an n > 1 request: its parent's prompt and last logits are its own.
void Speculator::request_copied(int32_t from, int32_t to, KeptRows* rows) {
  Slot *parent = find(from), *child = find(to);
  if (parent == nullptr || child == nullptr) return;
  guard("request_copied", [&] {
    child->trace = parent->trace;
    child->rows = rows;
    child->rows_whole = parent->rows_whole;
    child->sampled = parent->sampled;
    child->pays = parent->pays;
    child->drafted_by = 0;
    // The step that gave the parent its first token gives each child one too.
    if (child->counts()) serve_.target_steps.add();
  });
}

void Speculator::token_served(int32_t slot_id, int32_t token) {
  Slot* slot = find(slot_id);
  if (slot == nullptr || !slot->trace.active()) return;
  slot->trace.serve(token);
  (slot->rollout() ? serve_.rollout_tokens : serve_.generated_tokens).add();
}

TraceDrop Speculator::drop_cause(const Slot& slot) const {
  const RequestStart& request = slot.trace.request();
  if (!request.completion) return TraceDrop::kNotCompletion;
  if (!options_.capture) return TraceDrop::kCaptureOff;
  if (!request.labels.capture) return TraceDrop::kOptOut;
  if (request.multimodal) return TraceDrop::kMultimodal;
  if (request.lora) return TraceDrop::kLora;
  if (!slot.rows_whole) return TraceDrop::kShift;
  if (!slot.sampled) return TraceDrop::kNotSampled;
  if (!writer_) return TraceDrop::kBufferIo;
  return TraceDrop::kNoRows;
}

void Speculator::request_end(int32_t slot_id) {
  Slot* slot = find(slot_id);
  if (slot == nullptr || !slot->trace.active()) return;
  guard("request_end", [&] {
    if (slot->live_steps > 0) judge_live(*slot, 0);
    slot->live_version = 0;
    if (slot->trace.served() == 0) {
      serve_.traces_dropped(slot->trace.capturing() ? TraceDrop::kAborted : drop_cause(*slot))
          .add();
    } else if (slot->trace.capturing() && slot->rows_whole && slot->trace.has_rows(*slot->rows)) {
      FinishedRequest finished;
      finished.rows = slot->rows->rows;
      finished.trace = std::move(slot->trace);
      writer_->offer(std::move(finished));
    } else {
      serve_.traces_dropped(drop_cause(*slot)).add();
    }
  });
  slot->trace.stop();
  slot->trace.set_draft({}, {});
}

void Speculator::process(const common_batch& batch) {
  if (target_ == nullptr || batch.size() <= 0) return;
  guard("process", [&] {
    ScopedTimer timer(serve_.capture_time);
    const bool text = batch.has_token() && !batch.has_embd();
    for (int tap = 0; text && tap < kTapCount; ++tap) {
      taps_[tap] = llama_get_embeddings_layer_inp(target_, static_cast<uint32_t>(tap_layers_[tap]));
    }
    for (int32_t i = 0; i < batch.size(); ++i) {
      const auto& token = batch.tokens[static_cast<size_t>(i)];
      Slot* slot = find(token.seq_id);
      if (slot == nullptr || !slot->trace.active() || slot->rows == nullptr) continue;
      if (!text) slot->rows_whole = false;
      if (slot->rows_whole) keep_row(*slot, token.pos[0], token.id, i);
      if (slot->rows_whole && token.output && slot->trace.capturing()) keep_law(*slot, i);
      const bool last =
          i + 1 == batch.size() || batch.tokens[static_cast<size_t>(i) + 1].seq_id != token.seq_id;
      if (last) finish_step(token.seq_id, token.pos[0], token.output);
    }
  });
}

void Speculator::keep_row(Slot& slot, int32_t position, int32_t token, int32_t batch_index) {
  auto& rows = slot.rows->rows;
  const auto at = static_cast<size_t>(position);
  // Cells that came from a file or were moved have no rows, and what stands before such a gap no
  // use: a draft sees a stretch without holes.
  if (at > rows.size()) rows.clear();
  rows.resize(at);
  auto row = std::make_shared<KeptRow>();
  row->id = next_row_id_++;
  row->token = token;
  row->taps.resize(static_cast<size_t>(kTapCount * hidden_));
  for (int tap = 0; tap < kTapCount; ++tap) {
    const float* from =
        taps_[tap] + static_cast<size_t>(batch_index) * static_cast<size_t>(hidden_);
    uint16_t* to = row->taps.data() + static_cast<size_t>(tap) * static_cast<size_t>(hidden_);
    ggml_fp32_to_fp16_row(from, reinterpret_cast<ggml_fp16_t*>(to), hidden_);
  }
  rows.push_back(std::move(row));
}

void Speculator::keep_law(Slot& slot, int32_t batch_index) {
  const float* logits = llama_get_logits_ith(target_, batch_index);
  if (logits == nullptr) return;
  LawRows& laws = slot.trace.step_laws();
  const auto k = static_cast<size_t>(laws.k);
  const size_t used = laws.ids.size();
  laws.ids.resize(used + k);
  laws.logprobs.resize(used + k);
  top_law({logits, static_cast<size_t>(vocab_)}, {laws.ids.data() + used, k},
          {laws.logprobs.data() + used, k}, scratch_);
}

// last_position: of the slot's last row in the batch. A step counts when it has logits, prefill's
// last chunk too.
void Speculator::finish_step(int32_t slot_id, int32_t last_position, bool output) {
  Slot& slot = *find(slot_id);
  if (!output) return;
  const auto drafted = static_cast<int32_t>(slot.trace.drafted().size());
  slot.trace.step(last_position - drafted, slot.drafted_by);
  if (!slot.counts()) return;
  serve_.target_steps.add();
  if (!slot.trace.verifying() && slot.live_version != 0) count_live(slot, 1);
}

void Speculator::accept(int32_t slot_id, int32_t accepted) {
  Slot* slot = find(slot_id);
  if (slot == nullptr || !slot->trace.verifying()) return;
  guard("accept", [&] {
    serve_.num_accepted_tokens.add(static_cast<uint64_t>(accepted));
    for (int32_t i = 0; i < accepted; ++i) serve_.accepted_at(static_cast<size_t>(i)).add();
    slot->trace.accept(accepted, *slot->rows, options_.refused_max);
    if (slot->drafted_by != slot->live_version) judge_live(*slot, slot->drafted_by);
    count_live(*slot, accepted + 1);
  });
}

void Speculator::count_live(Slot& slot, int32_t tokens) {
  slot.live_tokens += tokens;
  ++slot.live_steps;
}

// A request's steps under one version go to the gate together: they resemble each other, and
// counted singly they would overstate how sure it is.
void Speculator::judge_live(Slot& slot, int64_t next_version) {
  const LiveAdvice advice =
      live_gate_.observe(slot.live_version, slot.live_tokens, slot.live_steps);
  if (slot.live_version != 0) pays_live_.observe(slot.live_tokens, slot.live_steps);
  slot.live_version = next_version;
  slot.live_tokens = slot.live_steps = 0;
  if (advice == LiveAdvice::kRollBack && options_.gate) roll_back();
  if (advice == LiveAdvice::kPromote && loader_) {
    loader_->report(live_verdict(live_gate_.last_good(), DraftVerdict::Kind::kServing));
    loader_->retire(std::move(last_good_));
  }
}

DraftVerdict Speculator::live_verdict(int64_t version, DraftVerdict::Kind kind) const {
  DraftVerdict verdict;
  verdict.version = version;
  verdict.kind = kind;
  verdict.reason = live_gate_.explain();
  if (const LiveGate::Stats* stats = live_gate_.find(version)) {
    verdict.live_accept_len = stats->mean();
    verdict.target_steps = static_cast<uint64_t>(stats->steps);
  }
  return verdict;
}

void Speculator::roll_back() {
  if (!engine_ || !last_good_ || !loader_) return;
  DraftVerdict verdict = live_verdict(engine_->version(), DraftVerdict::Kind::kRolledBack);
  LOG_WARN("speculator", "draft %lld out of service, back to %lld: %s",
           static_cast<long long>(engine_->version()),
           static_cast<long long>(last_good_->version()), verdict.reason.c_str());
  loader_->report(std::move(verdict));
  loader_->retire(std::move(engine_));
  engine_ = std::move(last_good_);
  pays_live_.adopt();
  serve_.rollbacks.add();
  serve_.draft_version.set(static_cast<double>(engine_->version()));
}

void Speculator::adopt_if_ready() {
  auto next = loader_->take();
  if (!next) return;
  if (engine_) {
    // Only a version that serving found good is worth going back to.
    const bool good = !last_good_ || live_gate_.last_good() == engine_->version();
    if (good) std::swap(last_good_, engine_);
    loader_->retire(std::move(engine_));
    serve_.swaps.add();
  } else {
    serve_.swaps.add();
  }
  engine_ = std::move(next);
  live_gate_.adopt(engine_->version());
  pays_live_.adopt();
  serve_.draft_version.set(static_cast<double>(engine_->version()));
  LOG_INFO("speculator", "draft %lld serves", static_cast<long long>(engine_->version()));
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

// Depth for every slot that may draft in this step; all or nothing where KV cells run short,
// because a verify batch that the server has to split fails every request in it.
void Speculator::make_wishes(const std::vector<common_speculative_draft_params>& params) {
  wishes_.clear();
  int64_t cells = 0;
  for (size_t i = 0; i < params.size() && i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.trace.set_draft({}, {});
    if (!params[i].drafting || !slot.trace.active() || !slot.speculates()) continue;
    if (!slot.pays) {
      serve_.drafting_skipped(DraftSkip::kNotPaying).add();
      continue;
    }
    if (slot.rows == nullptr || slot.rows->rows.empty() ||
        slot.rows->rows.size() != static_cast<size_t>(params[i].pos0)) {
      serve_.drafting_skipped(DraftSkip::kRowsMissing).add();
      continue;
    }
    DraftEngine::Wish wish;
    wish.slot = static_cast<int32_t>(i);
    wish.rows = slot.rows;
    wish.next = params[i].id_last;
    wish.depth = depth_.next(params[i].n_max);
    wish.prob_min = options_.draft_prob_min;
    if (wish.depth <= 0) continue;
    cells += wish.depth;
    wishes_.push_back(std::move(wish));
  }
  if (cells > cells_free_) {
    serve_.drafting_skipped(DraftSkip::kKvShort).add(wishes_.size());
    wishes_.clear();
  }
}

void Speculator::draft(std::vector<common_speculative_draft_params>& params) {
  if (target_ == nullptr || loader_ == nullptr) return;
  guard("draft", [&] {
    answer_loader();
    adopt_if_ready();
    if (!engine_) {
      bool some = false;
      for (Slot& slot : slots_) {
        slot.trace.set_draft({}, {});
        some = some || (slot.trace.active() && slot.speculates());
      }
      if (some) serve_.drafting_skipped(DraftSkip::kNoDraft).add();
      return;
    }
    ScopedTimer timer(serve_.draft_time);
    make_wishes(params);
    if (wishes_.empty()) return;
    if (Status status = engine_->draft(wishes_); !status) {
      LOG_WARN("speculator", "no draft in this step: %s", status.to_string().c_str());
      serve_.drafting_skipped(DraftSkip::kError).add(wishes_.size());
      return;
    }
    for (DraftEngine::Wish& wish : wishes_) {
      if (wish.tokens.empty()) continue;
      const auto index = static_cast<size_t>(wish.slot);
      serve_.num_drafts.add();
      serve_.num_draft_tokens.add(wish.tokens.size());
      *params[index].result = wish.tokens;
      slots_[index].drafted_by = engine_->version();
      slots_[index].trace.set_draft(std::move(wish.tokens), std::move(wish.probs));
    }
  });
}

std::string Speculator::metrics_text() {
  serve_.read_trainer(options_.trainer_status, unix_ms());
  return metrics_.text();
}

}  // namespace aurora
