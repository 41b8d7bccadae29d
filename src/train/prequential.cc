#include "train/prequential.h"

#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <optional>

#include "base/clock.h"
#include "registry/target_fingerprint.h"
#include "train/prequential_report.h"
#include "train/recording.h"
#include "train/trainer_parts.h"

namespace aurora {
namespace {

constexpr size_t kReadBytes = 256u << 20;

// Everything a run needs, joined once.
struct Parts {
  std::unique_ptr<TargetWeights> target;
  std::unique_ptr<RowsOfTarget> rows;
  std::unique_ptr<Recording> recording;
  std::optional<Registry> registry;  // nothing is published; the loop wants one
  std::unique_ptr<Learner> learner;
  TrainLoopOptions loop;
};

Result<Parts> join(const PrequentialOptions& options, const std::string& scratch) {
  const TrainOptions& train = options.train;
  Parts parts;
  auto target = TargetWeights::open(train.model);
  if (!target) return target.status();
  parts.target = std::move(*target);
  auto fingerprint = target_fingerprint(train.model);
  if (!fingerprint) return fingerprint.status();
  auto recording = Recording::open(options.trace_dbs);
  if (!recording) return recording.status();
  parts.recording = std::move(*recording);
  if (!options.domains.empty()) {
    Status s = parts.recording->sort_by_domain(options.domains, options.domain_requests_max);
    if (!s) return s;
  }
  auto registry = Registry::open(scratch);
  if (!registry) return registry.status();
  parts.registry = std::move(*registry);
  auto draft = start_draft(train, *parts.target);
  if (!draft) return draft.status();
  parts.rows = std::make_unique<RowsOfTarget>(*parts.target);
  auto learner = make_learner(*draft, *parts.rows, train.learn);
  if (!learner) return learner.status();
  parts.learner = std::move(*learner);
  parts.loop = train.loop;
  parts.loop.target = *fingerprint;
  parts.loop.shape = draft->shape;
  parts.loop.publish_first_records = 1 << 30;
  parts.loop.window.passes_mean = std::numeric_limits<double>::max();  // options.passes decides
  return parts;
}

class Run {
 public:
  Run(const PrequentialOptions& options, Parts& parts)
      : options_(options),
        parts_(parts),
        report_(options),
        loop_(parts.loop,
              {*parts.recording, *parts.registry, *parts.learner, {}, {}, [](double) {}}) {}

  Status all() {
    const int64_t start = steady_us();
    for (;;) {
      auto group = next_group();
      if (!group) return group.status();
      if (group->empty()) break;
      const int windows = report_.windows();
      if (Status s = one_group(*group); !s) return s;
      seconds_ = static_cast<double>(steady_us() - start) / 1e6;
      if (report_.windows() > windows) {
        if (Status s = report_.write(loop_.figures(), seconds_, false); !s) return s;
      }
      progress();
    }
    std::fputc('\n', stderr);
    if (report_.tokens() == 0)
      return Status::invalid(options_.trace_dbs[0] + " holds no record of this target");
    return report_.write(loop_.figures(), seconds_, true);
  }

 private:
  Result<std::vector<StoredRecord>> next_group() {
    std::vector<StoredRecord> group;
    for (int requests = 0;;) {
      auto one = parts_.recording->next(cursor_, 1, kReadBytes);
      if (!one) return one.status();
      if (one->empty()) break;
      const TraceRecord& record = one->front().record;
      const bool full = requests == options_.group_requests ||
                        (options_.tokens_max > 0 && seen_ >= options_.tokens_max);
      if (full && record.rollout_of == 0) break;  // rollouts belong to the request before them
      cursor_ = one->front().sequence;
      if (record.target != parts_.loop.target) continue;
      if (record.rollout_of == 0) {
        ++requests;
        seen_ += record.served_tokens();
      }
      group.push_back(std::move(one->front()));
    }
    return group;
  }

  Status one_group(const std::vector<StoredRecord>& group) {
    std::vector<const TraceRecord*> records;
    for (const StoredRecord& stored : group) {
      if (stored.record.rollout_of == 0) records.push_back(&stored.record);
      columns_ += stored.record.served_tokens();
    }
    const bool offline = options_.offline_tokens > 0;
    if (offline && report_.tokens() < options_.offline_tokens) {
      for (const TraceRecord* record : records) report_.skip(record->served_tokens());
      if (report_.tokens() < options_.offline_tokens) return Status::ok();
      parts_.recording->release(cursor_);
      return train();  // all of it at once
    }
    if (Status s = score(records); !s) return s;
    if (offline) return Status::ok();
    parts_.recording->release(cursor_);
    return train();
  }

  Status score(const std::vector<const TraceRecord*>& records) {
    const int depth = options_.depths.back();
    auto leads = parts_.learner->leads(records, depth);
    if (!leads) return leads.status();
    std::vector<Leads> frozen;
    if (options_.freeze_at_shift) {
      if (!domain_.empty() && records[0]->domain != domain_) {
        auto scorer = make_scorer(parts_.learner->snapshot(), *parts_.rows, options_.train.learn);
        if (!scorer) return scorer.status();
        frozen_ = std::move(*scorer);
      }
      domain_ = records[0]->domain;
      if (frozen_) {
        auto scored = frozen_->leads(records, depth);
        if (!scored) return scored.status();
        frozen = std::move(*scored);
      }
    }
    if (Status s = score_seen(records); !s) return s;
    report_.add_group(records, *leads, frozen);
    return Status::ok();
  }

  Status score_seen(const std::vector<const TraceRecord*>& records) {
    for (const TraceRecord* record : records)
      if (first_.size() < options_.seen_requests) first_.push_back(*record);
    if (first_.empty() || !report_.ends_window(records.size())) return Status::ok();
    std::vector<const TraceRecord*> seen;
    for (const TraceRecord& record : first_) seen.push_back(&record);
    const auto leads = parts_.learner->leads(seen, options_.depths.back());
    if (leads) report_.set_seen(seen, *leads);
    return leads.status();
  }

  Status train() {
    const double budget = options_.passes * static_cast<double>(columns_);
    while (static_cast<double>(loop_.figures().trained_columns) < budget) {
      auto busy = loop_.step();
      if (!busy) return busy.status();
      if (!*busy) break;
    }
    return Status::ok();
  }

  void progress() const {
    std::fprintf(stderr, "\r%lld tokens  accept %.3f  loss %.3f  %.0f rows/s  %.0f s",
                 static_cast<long long>(report_.tokens()), report_.last(), loop_.figures().loss,
                 loop_.figures().rows_per_s, seconds_);
    if (options_.tokens_max > 0 && seen_ > 0)
      std::fprintf(stderr, ", %.0f s left   ",
                   seconds_ *
                       static_cast<double>(std::max<int64_t>(0, options_.tokens_max - seen_)) /
                       static_cast<double>(seen_));
  }

  const PrequentialOptions& options_;
  Parts& parts_;
  PrequentialReport report_;
  TrainLoop loop_;
  std::unique_ptr<Scorer> frozen_;
  std::vector<TraceRecord> first_;  // options.seen_requests of them
  std::string domain_;
  uint64_t cursor_ = 0;
  int64_t seen_ = 0, columns_ = 0;
  double seconds_ = 0;
};

}  // namespace

Status run_prequential(const PrequentialOptions& options) {
  std::string scratch = (std::filesystem::temp_directory_path() / "aurora-XXXXXX").string();
  if (mkdtemp(scratch.data()) == nullptr) return Status::io("cannot make " + scratch);
  Status status = Status::ok();
  if (auto parts = join(options, scratch); !parts) status = parts.status();
  else status = Run(options, *parts).all();
  std::error_code ignored;
  std::filesystem::remove_all(scratch, ignored);
  return status;
}

}  // namespace aurora
