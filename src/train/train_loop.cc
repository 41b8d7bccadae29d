#include "train/train_loop.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "train/heap.h"

namespace aurora {
namespace {

constexpr size_t kKeepDrafts = 8;
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

std::string note_path(const TrainLoopOptions& options, const TrainSeams& seams) {
  if (options.checkpoint_path.empty() || seams.ranks) return "";
  return parent_dir(options.checkpoint_path) + "/trainer.trying";
}

}  // namespace

TrainLoop::TrainLoop(const TrainLoopOptions& options, const TrainSeams& seams)
    : options_(options),
      seams_(seams),
      rank_(seams.ranks ? seams.ranks->rank() : 0),
      ranks_count_(seams.ranks ? seams.ranks->size() : 1),
      window_(options.window),
      vocab_(options.shape.target_vocab, options.vocab_size),
      rng_(options.seed + static_cast<uint64_t>(rank_)),
      checkpoint_us_(steady_us()),
      tries_(note_path(options, seams)) {}

Status TrainLoop::run(const std::function<bool()>& stop) {
  stop_ = stop;
  for (;;) {
    const auto leave = any_rank(seams_.ranks, stop());
    if (!leave) return leave.status();
    if (*leave) break;
    auto busy = step();
    if (!busy) return busy.status();
    if (*busy) continue;
    if (options_.once) break;
    seams_.sleep(kIdleSeconds);
  }
  if (leads() && options_.once && offered_at_ < records_seen()) offer();
  write_status(true);
  return checkpoint_if(dirty_);
}

Result<bool> TrainLoop::step() {
  bool busy = false;
  const auto reads = to_read();
  if (!reads) return reads;
  if (*reads) {
    auto some = take_in();
    if (!some) return some;
    busy = *some;
  }
  // All ranks take the same number of steps: one without work joins with no rows.
  const auto work = any_rank(seams_.ranks, window_.has_work());
  if (!work) return work;
  if (*work) {
    if (Status s = train(); !s) return s;
    busy = true;
  }
  if (leads() && offer_due()) {
    offer();
    give_back_freed_memory();
  }
  if (Status s = checkpoint_if(checkpoint_due()); !s) {
    if (lost()) return s;
    LOG_WARN("train", "checkpoint: %s", s.to_string().c_str());
  }
  write_status(false);
  // Only after a round that found nothing is there no work: beside a busy server, reading what has
  // just been served takes minutes without a core.
  if (seams_.next_step) seams_.next_step(busy);
  return busy;
}

// An answer longer than a step takes several: many small steps learn more from the same rows than
// few large ones (docs/results/learning.md). Ranks, whose steps are larger anyway, step together.
TrainLoop::Parts TrainLoop::parts_of(const std::shared_ptr<const TraceRecord>& record) const {
  const SegmentOptions cut = {options_.columns_per_step + 1,
                              options_.window.segments.context_rows_max};
  const int count = segment_count(*record, cut);
  if (seams_.ranks || count == 1) return {record};
  Parts parts;
  for (int i = 0; i < count; ++i)
    parts.push_back(std::make_shared<const TraceRecord>(cut_segment(*record, i, cut)));
  return parts;
}

Status TrainLoop::train() {
  const auto drawn = window_.draw(options_.columns_per_step, rng_);
  audit(drawn);
  dirty_ = true;
  Parts held, alone;  // the entries may leave the window on the way
  std::vector<const TraceRecord*> together;
  for (const WindowEntry* entry : drawn) {
    const Parts parts = parts_of(entry->record);
    for (const auto& part : parts) {
      const bool by_itself = parts.size() > 1 || tries_.suspect(piece_of(*part));
      (by_itself ? alone : held).push_back(part);
      if (!by_itself) together.push_back(part.get());
    }
  }
  for (const auto& part : alone) {
    if (stop_ && stop_()) return Status::ok();
    ++figures_.steps;
    const TraceRecord* record = part.get();
    if (Status s = learn({&record, 1}); !s) return s;
  }
  if (together.empty() && !seams_.ranks) return Status::ok();
  ++figures_.steps;
  return learn(together);
}

void TrainLoop::go_back() {
  ++figures_.went_back;
  const bool went = seams_.learner.go_back();
  LOG_WARN("train", "the loss rose to %.2f from %.2f at first: %s, at half the rate for a while",
           figures_.loss, loss_first_, went ? "back to the last draft published" : "going on");
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

int TrainLoop::records_an_offer() const {
  return offered_at_ == 0 ? options_.publish_first_records : options_.publish_every_records;
}

uint64_t TrainLoop::records_to_offer() const {
  const uint64_t due = offered_at_ + static_cast<uint64_t>(records_an_offer());
  return due - std::min(due, records_seen());
}

// By records, and only after training on them: at least four steps, or no work left.
bool TrainLoop::offer_due() const {
  if (records_to_offer() > 0) return false;
  const uint64_t steps = figures_.steps - steps_at_offer_;
  return !window_.has_work() || steps >= static_cast<uint64_t>(records_an_offer());
}

void TrainLoop::offer() {
  offered_at_ = records_seen();
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
  auto candidate = replayed(seams_.learner, holdout);
  if (!candidate) return candidate.status();
  auto in_service = in_service_scores(holdout);
  if (!in_service) return in_service.status();
  return decide(*candidate, **in_service, options_.gate_options);
}

// Empty when no draft serves. A version that cannot be read any more counts as none.
Result<const std::vector<ReplayScore>*> TrainLoop::in_service_scores(
    const std::vector<const TraceRecord*>& holdout) {
  in_service_scores_.clear();
  auto serving = seams_.registry.serving(options_.target);
  if (!serving) return serving.status();
  if (!serving->has_value()) {
    in_service_.reset();
    in_service_version_ = 0;
    return &in_service_scores_;
  }
  const int64_t version = (*serving)->version;
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
  auto scores = replayed(*in_service_, holdout);
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
  manifest.reason = decision.reason;
  auto published = seams_.registry.publish(staged, manifest);
  if (!published) return published.status();
  figures_.version = published->version;
  ++figures_.published;
  seams_.learner.keep_good();
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

TrainerStatus TrainLoop::status() const {
  const TrainFigures& f = figures_;
  const auto left_out = [&f](Unusable cause) {
    return static_cast<double>(f.unusable[static_cast<size_t>(cause)]);
  };
  TrainerStatus now;
  now.updated_ms = static_cast<double>(unix_ms());
  now.lag_records = static_cast<double>(f.lag_records);
  now.rows_per_second = f.rows_per_s;
  now.steps = static_cast<double>(f.steps);
  now.cpu_seconds = static_cast<double>(std::clock()) / CLOCKS_PER_SEC;  // of all threads
  now.loss = f.loss;
  now.holdout_accept_len = f.holdout_accept_len;
  now.draft_version = static_cast<double>(f.version);
  now.next_offer_records = static_cast<double>(records_to_offer());
  now.offers = static_cast<double>(f.offers);
  now.published = static_cast<double>(f.published);
  now.went_back = static_cast<double>(f.went_back);
  now.trained_tokens = static_cast<double>(f.trained_tokens);
  now.left_out_foreign = left_out(Unusable::kForeign);
  now.left_out_short = left_out(Unusable::kShort);
  now.left_out_shape = left_out(Unusable::kShape);
  now.left_out_token = left_out(Unusable::kToken);
  now.left_out_not_finite = left_out(Unusable::kNotFinite);
  now.left_out_failed = static_cast<double>(f.dropped_records);
  now.dropped_records =
      now.left_out_shape + now.left_out_token + now.left_out_not_finite + now.left_out_failed;
  return now;
}

void TrainLoop::write_status(bool force) {
  const int64_t now = steady_us();
  if (options_.status_path.empty()) return;
  if (!force && static_cast<double>(now - status_us_) / 1e6 < options_.status_every_s) return;
  status_us_ = now;
  if (Status s = write_trainer_status(options_.status_path, status()); !s)
    LOG_WARN("train", "status file: %s", s.to_string().c_str());
}

}  // namespace aurora
