#include "speculator/speculator.h"

#include <algorithm>
#include <filesystem>
#include <random>

#include "base/clock.h"
#include "base/files.h"
#include "base/hash_share.h"
#include "base/log.h"
#include "common.h"
#include "draft/taps.h"
#include "llama-ext.h"
#include "metrics/parse.h"
#include "speculative.h"
#include "speculator/request_labels.h"
#include "speculator/scoped_timer.h"
#include "speculator/tap_row.h"
#include "speculator/trace_folder.h"

namespace aurora {
namespace {

void cut_rows(KeptRows& kept, size_t count) {
  if (kept.rows.size() > count) kept.rows.resize(count);
  if (!kept.rows.empty() && kept.rows.back() == nullptr) kept.clear();  // none of them is known
}

// Enough for a draft to see what the text is about; a step of so many rows is felt by nobody.
constexpr int32_t kRebuiltRows = 256;

}  // namespace

Speculator::Speculator(SpeculatorOptions options)
    : options_(std::move(options)),
      next_request_(static_cast<uint64_t>(std::random_device{}()) << 32) {
  if (options_.state_dir.empty()) return;
  auto lender = CoreLender::open(options_.state_dir);
  if (lender) {
    lender_.emplace(std::move(*lender));
    lender_->publish(kAllCores);
  } else {
    LOG_WARN("speculator", "no core is lent to the trainer while requests run: %s",
             lender.status().to_string().c_str());
  }
}

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
  hidden_ = llama_model_n_embd(model);
  vocab_ = llama_vocab_n_tokens(llama_model_get_vocab(model));
  slots_.clear();
  slots_.resize(static_cast<size_t>(slots));
  threads_max_ = threads_ = llama_n_threads(target);
  schedule_ = CoreSchedule({.threads = threads_max_, .share = options_.train_share});
  start_service(slots, draft_max);
  default_tap_layers(llama_model_n_layer(model), tap_layers_);
  for (const int32_t layer : tap_layers_)
    llama_set_embeddings_layer_inp(target, static_cast<uint32_t>(layer), true);

  if (Status status = start_writer(); !status) {
    detach();
    return "aurora: " + status.message();
  }
  DraftLoaderOptions loader;
  loader.registry_dir = options_.registry_dir;
  loader.target = options_.target;
  loader.target_path = options_.target_path;
  loader.threads = llama_n_threads(target);
  loader_ = std::make_unique<DraftLoader>(loader, DraftHost{target, slots, loader.threads}, serve_);
  wanted_changed_ = true;
  return "";
}

// A disk that refuses costs the capture and nothing else; a URL that cannot work is a mistake to
// show at once.
Status Speculator::start_writer() {
  TraceBufferOptions buffer_options;
  buffer_options.dir = options_.traces_dir;
  buffer_options.bytes_max = options_.buffer_bytes_max;
  if (!options_.capture || !options_.buffer_url.empty()) start_sweeper(buffer_options);
  if (!options_.capture) return Status::ok();
  const bool local = options_.buffer_url.empty();
  auto buffer = local ? open_trace_folder(buffer_options, serve_)
                      : open_trace_buffer(options_.buffer_url, buffer_options);
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
  if (local) writer.bytes_max = options_.buffer_bytes_max;
  writer.expires_in_s = options_.expires_in_s;
  std::copy_n(tap_layers_, kTapCount, writer.tap_layers);
  writer_ = std::make_unique<TraceWriter>(std::move(*buffer), writer, serve_,
                                          local ? begin_anew(buffer_options) : nullptr);
  return Status::ok();
}

TraceWriter::BeginAnew Speculator::begin_anew(const TraceBufferOptions& options) {
  return
      [this, options](const Status& why) { return begin_trace_folder_anew(options, why, serve_); };
}

// Traces of the time before capture was switched off, or went to brokers, expire as they would
// have: a writer whom nobody offers a request.
void Speculator::start_sweeper(const TraceBufferOptions& buffer_options) {
  std::error_code ignored;
  if (!std::filesystem::exists(buffer_options.dir + "/traces", ignored)) return;
  auto buffer = open_trace_folder(buffer_options, serve_);
  if (buffer) {
    TraceWriterOptions sweeper;
    if (options_.buffer_url.empty()) sweeper.bytes_max = options_.buffer_bytes_max;
    sweeper_ = std::make_unique<TraceWriter>(std::move(*buffer), sweeper, serve_,
                                             begin_anew(buffer_options));
  } else {
    LOG_WARN("speculator", "expired traces stay: %s", buffer.status().to_string().c_str());
  }
}

void Speculator::detach() {
  if (lender_) lender_->publish(kAllCores);
  service_.reset();
  loader_.reset();
  writer_.reset();
  sweeper_.reset();
  target_ = nullptr;
  slots_.clear();
  serve_.draft_version.set(0);
  serve_.draft_on_trial.set(0);
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
    if (start.labels.rollout_of == 0) begin_serving();
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
    slot->figures = {};
    slot->token_us = steady_us();
    if (start.completion) start_in_service(start);
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
    child->drafted_by = 0;
    child->figures = {};
    child->token_us = parent->token_us;
    child->figures.step();
    service_->request_copied(from, to);
    // The step that gave the parent its first token gives each child one too.
    child->version = parent->version;
    if (child->counts()) count_step(*child);
  });
}

void Speculator::token_served(int32_t slot_id, int32_t token) {
  Slot* slot = find(slot_id);
  if (slot == nullptr || !slot->trace.active()) return;
  slot->trace.serve(token);
  service_->token_served(slot_id, token);
  (slot->rollout() ? serve_.rollout_tokens : serve_.generated_tokens).add();
  if (slot->rollout()) return;
  serve_.versions.token(slot->version);
  if (slot->speculates()) fall_watch_.token();
  const int64_t now_us = steady_us();
  Histogram& waited = slot->trace.served() > 1 ? serve_.next_token_s : serve_.first_token_s;
  waited.observe(static_cast<double>(now_us - slot->token_us) * 1e-6);
  slot->token_us = now_us;
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
    service_->request_end(slot_id);
    if (slot->trace.served() == 0) {
      serve_.traces_dropped(slot->trace.capturing() ? TraceDrop::kAborted : drop_cause(*slot))
          .add();
    } else if (slot->trace.capturing() && slot->rows_whole && slot->trace.has_rows(*slot->rows)) {
      writer_->offer(std::move(slot->trace), slot->rows->rows);
      if (lender_) lender_->announce();
    } else {
      serve_.traces_dropped(drop_cause(*slot)).add();
    }
  });
  slot->trace.stop();
  slot->trace.set_draft({}, {});
  if (live_.due_at_end(serve_.generated_tokens.value())) note_live();
  if (lender_ && !serving_some()) lender_->publish(kAllCores);
}

// A rollout gives way at once: beside it the trainer may have what it likes.
bool Speculator::serving_some() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return slot.trace.active() && !slot.rollout(); });
}

void Speculator::process(const common_batch& batch) {
  if (target_ == nullptr || batch.size() <= 0) return;
  guard("process", [&] {
    ScopedTimer timer(serve_.capture_time);
    service_->decoded(batch.size());
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
  const auto hidden = static_cast<size_t>(hidden_);
  for (size_t tap = 0; tap < kTapCount; ++tap)
    taps_to_fp16({taps_[tap] + static_cast<size_t>(batch_index) * hidden, hidden},
                 {row->taps.data() + tap * hidden, hidden});
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
  if (top_law({logits, static_cast<size_t>(vocab_)}, {laws.ids.data() + used, k},
              {laws.logprobs.data() + used, k}, scratch_))
    return;
  laws.ids.resize(used);
  laws.logprobs.resize(used);
  slot.trace.give_up();
  serve_.speculator_errors.add();
}

// last_position: of the slot's last row in the batch. A step counts when it has logits, prefill's
// last chunk too.
void Speculator::finish_step(int32_t slot_id, int32_t last_position, bool output) {
  Slot& slot = *find(slot_id);
  if (!output) return;
  const auto drafted = static_cast<int32_t>(slot.trace.drafted().size());
  slot.trace.step(last_position - drafted, slot.drafted_by);
  if (!slot.counts()) return;
  const bool may_draft = slot.speculates() && drafting_ && options_.chain;
  slot.version = may_draft ? service_->request_version(slot_id) : 0;
  count_step(slot);
  slot.figures.step();
  if (!slot.trace.verifying()) service_->stepped(slot_id, 0);
}

void Speculator::count_step(Slot& slot) {
  serve_.target_steps.add();
  serve_.versions.step(slot.version);
  if (slot.speculates() && fall_watch_.step()) schedule_.traffic_moved(steady_us());
}

void Speculator::accept(int32_t slot_id, int32_t accepted) {
  Slot* slot = find(slot_id);
  if (slot == nullptr || !slot->trace.verifying()) return;
  guard("accept", [&] {
    serve_.num_accepted_tokens.add(static_cast<uint64_t>(accepted));
    slot->figures.accept(accepted);
    for (int32_t i = 0; i < accepted; ++i) serve_.accepted_at(static_cast<size_t>(i)).add();
    slot->trace.accept(accepted, *slot->rows, options_.refused_max);
    service_->stepped(slot_id, accepted);
  });
}

void Speculator::trainer_ended(int exit_code, const std::string& sentence) {
  {
    const std::lock_guard lock(trainer_end_mutex_);
    trainer_end_ = sentence;
  }
  happened("trainer_ended", 0, sentence);
  serve_.trainer_restarts.add();
  serve_.trainer_last_exit_code.set(exit_code);
  if (lender_) lender_->forget_wish();
}

std::string Speculator::request_figures(int32_t slot_id) {
  const Slot* slot = find(slot_id);
  std::string text;
  if (slot == nullptr || !slot->trace.active()) return text;
  guard("request_figures", [&] {
    text = slot->figures.text(slot->trace.served(), service_->request_figures(slot_id));
  });
  return text;
}

std::string Speculator::metrics_text() {
  serve_.read_trainer(options_.trainer_status, unix_ms());
  // A step of a large draft, with a core lent now and then, may take longer than a report may be
  // old.
  if (options_.trainer_runs && options_.trainer_runs()) serve_.trainer_alive.set(1);
  serve_.log_lines_dropped.set(
      static_cast<double>(dropped_log_lines() + aurora::log_lines_dropped));
  const std::lock_guard lock(trainer_end_mutex_);
  return metrics_.text() + serve_.versions.text() + comment_line(kTrainerLastExit, trainer_end_);
}

}  // namespace aurora
