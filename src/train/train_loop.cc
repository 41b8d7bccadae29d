#include "train/train_loop.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unordered_map>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "metrics/trainer_status.h"

namespace aurora {
namespace {

constexpr const char* kConsumer = "trainer";
constexpr size_t kReadRecords = 16;
constexpr size_t kReadBytes = 64u << 20;
constexpr size_t kUntrainedMax = 32;  // while so many wait for their first pass, reading waits ...
constexpr uint64_t kLagMax = 128;     // ... unless the buffer runs so far ahead
constexpr size_t kKeepDrafts = 8;
constexpr int kFailuresMax = 50;  // steps in a row
constexpr double kVocabGainMin = 0.002;
constexpr double kIdleSeconds = 0.2;

bool all_finite(DraftWeights& weights) {
  const auto finite = [](const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
  };
  return finite(weights.fc) && finite(weights.attn_norm) && finite(weights.hidden_norm) &&
         finite(weights.wq) && finite(weights.wk) && finite(weights.wv) && finite(weights.wo) &&
         finite(weights.ffn_norm) && finite(weights.gate) && finite(weights.up) &&
         finite(weights.down) && finite(weights.output_norm) && finite(weights.output);
}

void drop_branches(TraceRecord& record) {
  record.refused = {};
  record.refused_taps = {};
  record.refused_laws = {};
}

double running_mean(double mean, double value, uint64_t count) {
  const double keep = std::min(0.95, 1.0 - 1.0 / static_cast<double>(count));
  return keep * mean + (1 - keep) * value;
}

}  // namespace

TrainLoop::TrainLoop(const TrainLoopOptions& options, const TrainSeams& seams)
    : options_(options),
      seams_(seams),
      window_(options.window),
      vocab_(options.shape.target_vocab, options.vocab_size),
      rng_(options.seed),
      checkpoint_us_(steady_us()) {}

Status TrainLoop::run(const std::function<bool()>& stop) {
  while (!stop()) {
    auto busy = step();
    if (!busy) return busy.status();
    if (*busy) continue;
    if (options_.once) break;
    seams_.sleep(kIdleSeconds);
  }
  if (options_.once && offered_at_ < window_.records_seen()) offer();
  write_status(true);
  return dirty_ ? checkpoint() : Status::ok();
}

Result<bool> TrainLoop::step() {
  bool busy = false;
  if (wants_records()) {
    auto any = take_in();
    if (!any) return any;
    busy = *any;
  }
  if (window_.has_work()) {
    if (Status s = train(); !s) return s;
    busy = true;
  }
  if (offer_due()) offer();
  const double since_s = static_cast<double>(steady_us() - checkpoint_us_) / 1e6;
  if (dirty_ && since_s >= options_.checkpoint_every_s) {
    if (Status s = checkpoint(); !s) LOG_WARN("train", "checkpoint: %s", s.to_string().c_str());
  }
  write_status(false);
  return busy;
}

bool TrainLoop::wants_records() {
  if (!window_.has_work()) return true;
  if (options_.once) return false;
  return window_.untrained() < kUntrainedMax || figures_.lag_records > kLagMax;
}

bool TrainLoop::usable(const TraceRecord& record) const {
  return record.target == options_.target && record.served_tokens() >= 2 &&
         record.hidden == options_.shape.hidden &&
         std::equal(record.tap_layers, record.tap_layers + kTapCount, options_.shape.tap_layers);
}

Result<bool> TrainLoop::take_in() {
  auto batch = seams_.buffer.read(cursor_, kReadRecords, kReadBytes);
  if (!batch) {
    // The server may be creating or replacing the buffer: training goes on with what is there.
    LOG_WARN("train", "reading traces: %s", batch.status().to_string().c_str());
    return false;
  }
  for (StoredRecord& stored : *batch) {
    cursor_ = stored.sequence;
    dirty_ = true;
    if (!usable(stored.record)) continue;
    if (window_.holds(stored.record.id)) continue;  // sent twice by a server that got no answer
    figures_.trained_tokens += static_cast<uint64_t>(stored.record.served_tokens());
    vocab_.observe(stored.record);
    if (!options_.branches) drop_branches(stored.record);
    window_.add(std::move(stored), rng_);
  }
  if (auto stats = seams_.buffer.stats()) note_lag(stats->last_sequence);
  refresh_vocab();
  return !batch->empty();
}

void TrainLoop::note_lag(uint64_t last_sequence) {
  if (last_sequence < cursor_) {
    // A broker that lost its disk, or a stream that was made anew. What is there now may be old, so
    // reading goes on at its end.
    LOG_WARN(
        "train", "the traces end at %llu, before %llu where this trainer stood: going on there",
        static_cast<unsigned long long>(last_sequence), static_cast<unsigned long long>(cursor_));
    cursor_ = last_sequence;
  }
  figures_.lag_records = last_sequence - cursor_;
}

// Looked at often while little is known, then rarely: each exchange throws trained head rows away.
void TrainLoop::refresh_vocab() {
  const uint64_t seen = window_.records_seen();
  if (seen - vocab_at_ < std::max<uint64_t>(vocab_at_ == 0 ? 1 : 4, seen / 8)) return;
  vocab_at_ = seen;
  std::vector<int64_t> next = vocab_.next(seams_.learner.vocab(), kVocabGainMin);
  if (next == seams_.learner.vocab()) return;
  if (Status s = seams_.learner.set_vocab(std::move(next)); !s)
    LOG_WARN("train", "draft vocabulary: %s", s.to_string().c_str());
}

Status TrainLoop::train() {
  const auto drawn = window_.draw(options_.columns_per_step, rng_);
  std::vector<const TraceRecord*> records;
  for (const WindowEntry* entry : drawn) records.push_back(entry->record.get());
  audit(drawn);
  auto result = seams_.learner.learn(records);
  dirty_ = true;
  ++figures_.steps;
  if (!result) {
    // A record that cannot be learnt (a tap that is not finite) is left behind; a trainer that
    // learns nothing stops.
    LOG_WARN("train", "step left out: %s", result.status().to_string().c_str());
    return ++failures_ < kFailuresMax ? Status::ok() : result.status();
  }
  failures_ = 0;
  figures_.trained_columns += static_cast<uint64_t>(result->columns);
  figures_.training_s += result->seconds;
  if (result->rows + result->branch_rows == 0) return Status::ok();
  figures_.loss = running_mean(figures_.loss, result->loss, figures_.steps);
  if (figures_.steps <= 20) loss_first_ = figures_.loss;
  if (result->seconds > 0)
    figures_.rows_per_s =
        running_mean(figures_.rows_per_s, result->columns / result->seconds, figures_.steps);
  return Status::ok();
}

void TrainLoop::audit(const std::vector<const WindowEntry*>& drawn) {
  std::string lines;
  for (const WindowEntry* e : drawn)
    lines += std::to_string(figures_.steps + 1) + ' ' + std::to_string(e->sequence) + ' ' +
             std::to_string(e->passes) + '\n';
  append_audit(lines);
}

void TrainLoop::append_audit(const std::string& lines) const {
  if (options_.audit_path.empty()) return;
  std::FILE* file = std::fopen(options_.audit_path.c_str(), "a");
  if (!file) return;
  std::fputs(lines.c_str(), file);
  std::fclose(file);
}

// By records, and only after training on them: at least four steps, or no work left.
bool TrainLoop::offer_due() const {
  const uint64_t seen = window_.records_seen();
  const int wanted =
      offered_at_ == 0 ? options_.publish_first_records : options_.publish_every_records;
  if (seen < offered_at_ + static_cast<uint64_t>(wanted)) return false;
  const uint64_t steps = figures_.steps - steps_at_offer_;
  return !window_.has_work() || steps >= static_cast<uint64_t>(wanted);
}

void TrainLoop::offer() {
  offered_at_ = window_.records_seen();
  steps_at_offer_ = figures_.steps;
  ++figures_.offers;
  auto decision = judge(window_.holdout());
  if (!decision) {
    LOG_WARN("train", "gate: %s", decision.status().to_string().c_str());
    return;
  }
  figures_.holdout_accept_len = decision->candidate;
  warn_if_misaligned(*decision);
  if (!options_.gate) {
    decision->publish = true;
    decision->reason = "gate off; " + decision->reason;
  }
  if (!decision->publish) {
    LOG_INFO("train", "not published: %s", decision->reason.c_str());
    return;
  }
  if (Status s = publish(*decision); !s) LOG_WARN("train", "publish: %s", s.to_string().c_str());
}

Result<GateDecision> TrainLoop::judge(const std::vector<const TraceRecord*>& holdout) {
  auto candidate = replay(seams_.learner, holdout, options_.draft_depth);
  if (!candidate) return candidate.status();
  auto in_service = in_service_scores(holdout);
  if (!in_service) return in_service.status();
  return decide(*candidate, **in_service, options_.gate_options);
}

// Empty when no draft serves. A version that cannot be read any more counts as none.
Result<const std::vector<ReplayScore>*> TrainLoop::in_service_scores(
    const std::vector<const TraceRecord*>& holdout) {
  in_service_scores_.clear();
  auto newest = seams_.registry.newest(options_.target);
  if (!newest) return newest.status();
  if (!newest->has_value()) {
    in_service_.reset();
    in_service_version_ = 0;
    return &in_service_scores_;
  }
  const int64_t version = (*newest)->version;
  if (version != in_service_version_ || !in_service_) {
    auto loaded = seams_.load_draft(seams_.registry.gguf_path(version));
    if (!loaded) {
      LOG_WARN("train", "draft %lld: %s", static_cast<long long>(version),
               loaded.status().to_string().c_str());
      return &in_service_scores_;
    }
    in_service_ = std::move(*loaded);
    in_service_version_ = version;
  }
  auto scores = replay(*in_service_, holdout, options_.draft_depth);
  if (!scores) return scores.status();
  in_service_scores_ = std::move(*scores);
  return &in_service_scores_;
}

Status TrainLoop::publish(const GateDecision& decision) {
  DraftWeights weights = seams_.learner.snapshot();
  if (!all_finite(weights)) return Status::internal("the draft holds a value that is not finite");
  const std::string staged = seams_.registry.stage_path();
  if (Status s = seams_.write_draft(staged, weights); !s) return s;
  DraftManifest manifest;
  manifest.parent = in_service_version_;
  manifest.target = options_.target;
  manifest.trained_tokens = figures_.trained_tokens;
  manifest.replay_accept_len = decision.candidate;
  manifest.replay_accept_len_in_service = decision.in_service;
  manifest.pays_above = options_.gate_options.pays_above;
  manifest.reason = decision.reason;
  auto published = seams_.registry.publish(staged, manifest);
  if (!published) return published.status();
  figures_.version = published->version;
  ++figures_.published;
  LOG_INFO("train", "published draft %lld after %llu tokens: %s",
           static_cast<long long>(published->version),
           static_cast<unsigned long long>(figures_.trained_tokens), decision.reason.c_str());
  return seams_.registry.prune(kKeepDrafts, {in_service_version_, published->version});
}

// Loss falls, yet nothing is ever accepted: rows and labels are off by one (docs/architecture.md,
// alignment).
void TrainLoop::warn_if_misaligned(const GateDecision& decision) {
  if (figures_.steps < 300 || decision.candidate > 1.005) return;
  if (figures_.loss > 0.8 * loss_first_) return;
  LOG_ERROR("train",
            "loss fell from %.2f to %.2f but the replayed accept length is %.3f: are taps and "
            "laws of the records aligned?",
            loss_first_, figures_.loss, decision.candidate);
}

Status TrainLoop::checkpoint() {
  checkpoint_us_ = steady_us();
  if (options_.checkpoint_path.empty()) return Status::ok();
  Checkpoint c;
  c.target = options_.target;
  c.cursor = cursor_;
  c.rng = rng_.state();
  c.steps = figures_.steps;
  c.trained_tokens = figures_.trained_tokens;
  c.offered_at = offered_at_;
  c.version = figures_.version;
  c.loss_first = loss_first_;
  c.loss_mean = figures_.loss;
  c.window = window_.books();
  c.vocab = vocab_.state();
  c.learner = seams_.learner.save();
  if (Status s = write_checkpoint(options_.checkpoint_path, c); !s) return s;
  dirty_ = false;
  return seams_.buffer.acknowledge(kConsumer, cursor_);
}

Status TrainLoop::resume() {
  if (Status s = restore(); !s) return s;
  append_audit("resumed " + std::to_string(figures_.steps) + "\n");
  return Status::ok();
}

Status TrainLoop::restore() {
  if (options_.checkpoint_path.empty()) return Status::ok();
  auto c = read_checkpoint(options_.checkpoint_path);
  if (!c) return c.status().code() == StatusCode::kNotFound ? Status::ok() : c.status();
  if (c->target != options_.target)
    return Status::invalid(options_.checkpoint_path +
                           " was trained for another target model: use another --state directory");
  if (Status s = seams_.learner.load(c->learner); !s)
    return Status(s.code(), options_.checkpoint_path + ": " + s.message());
  auto books = reread(std::move(c->window), c->cursor);
  if (!books) return books.status();
  window_.restore(std::move(*books));
  vocab_.restore(c->vocab);
  rng_ = SmallRng(c->rng);
  cursor_ = c->cursor;
  offered_at_ = c->offered_at;
  vocab_at_ = window_.records_seen();
  loss_first_ = c->loss_first;
  steps_at_offer_ = figures_.steps = c->steps;
  figures_.trained_tokens = c->trained_tokens;
  figures_.version = c->version;
  figures_.loss = c->loss_mean;
  LOG_INFO("train", "resumed at step %llu, record %llu, draft %lld",
           static_cast<unsigned long long>(c->steps), static_cast<unsigned long long>(cursor_),
           static_cast<long long>(c->version));
  // A kill between writing the checkpoint and acknowledging left the cursor behind.
  return seams_.buffer.acknowledge(kConsumer, cursor_);
}

// The records the books speak of, from the buffer. What it has dropped since is gone from the
// window, no more.
Result<Window::Books> TrainLoop::reread(Window::Books books, uint64_t cursor) {
  std::unordered_map<uint64_t, WindowEntry*> wanted;
  uint64_t first = cursor + 1;
  for (WindowEntry& e : books.entries) {
    wanted.emplace(e.sequence, &e);
    first = std::min(first, e.sequence);
  }
  for (uint64_t after = first - 1; after < cursor;) {
    auto batch = seams_.buffer.read(after, kReadRecords, kReadBytes);
    if (!batch) return batch.status();
    if (batch->empty()) break;
    after = batch->back().sequence;
    for (StoredRecord& stored : *batch) {
      const auto it = wanted.find(stored.sequence);
      // Same number, other record: the buffer was replaced; its records are new ones.
      if (it == wanted.end() || it->second->id != stored.record.id) continue;
      it->second->record = std::make_shared<const TraceRecord>(std::move(stored.record));
    }
  }
  return books;
}

void TrainLoop::write_status(bool force) {
  const int64_t now = steady_us();
  if (options_.status_path.empty()) return;
  if (!force && static_cast<double>(now - status_us_) / 1e6 < options_.status_every_s) return;
  status_us_ = now;
  const TrainFigures& f = figures_;
  char text[512];
  std::snprintf(
      text, sizeof(text),
      "{\"pid\": %d, \"time_ms\": %lld, \"steps\": %llu, \"rows_per_s\": %.1f, "
      "\"lag_records\": %llu, \"loss\": %.4f, \"version\": %lld, "
      "\"holdout_accept_len\": %.4f, \"trained_tokens\": %llu, \"offers\": %llu, "
      "\"published\": %llu}\n",
      static_cast<int>(getpid()), static_cast<long long>(unix_ms()),
      static_cast<unsigned long long>(f.steps), f.rows_per_s,
      static_cast<unsigned long long>(f.lag_records), f.loss, static_cast<long long>(f.version),
      f.holdout_accept_len, static_cast<unsigned long long>(f.trained_tokens),
      static_cast<unsigned long long>(f.offers), static_cast<unsigned long long>(f.published));
  if (Status s = write_file_atomically(options_.status_path, text, 0644); !s)
    LOG_WARN("train", "status file: %s", s.to_string().c_str());
  // The same for the server's /metrics, in the format that its scrape has.
  TrainerStatus status;
  status.updated_ms = unix_ms();
  status.lag_records = static_cast<double>(f.lag_records);
  status.rows_per_second = f.rows_per_s;
  status.steps = f.steps;
  const std::string path = parent_dir(options_.status_path) + "/trainer.status";
  if (Status s = write_trainer_status(path, status); !s)
    LOG_WARN("train", "status file: %s", s.to_string().c_str());
}

}  // namespace aurora
