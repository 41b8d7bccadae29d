#include "train/prequential.h"

#include <stdlib.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "base/clock.h"
#include "base/files.h"
#include "base/fingerprint.h"
#include "train/trainer_parts.h"

namespace aurora {
namespace {

constexpr size_t kReadBytes = 256u << 20;

// Recordings one behind the other, under rising sequence numbers, shown bit by bit. Takes no
// acknowledgement.
class Recording final : public TraceBuffer {
 public:
  static Result<std::unique_ptr<Recording>> open(const std::vector<std::string>& dirs) {
    auto recording = std::make_unique<Recording>();
    for (const std::string& dir : dirs) {
      auto buffer = open_lmdb_buffer({.dir = dir, .role = TraceBufferOptions::Role::kReader});
      if (!buffer) return buffer.status();
      auto stats = (*buffer)->stats();
      if (!stats) return stats.status();
      const uint64_t before = recording->parts_.empty() ? 0 : recording->parts_.back().end;
      recording->parts_.push_back({std::move(*buffer), before, before + stats->last_sequence});
    }
    return recording;
  }

  void release(uint64_t up_to) { up_to_ = up_to; }

  // Of what is not released yet, too.
  Result<std::vector<StoredRecord>> peek(uint64_t after, size_t count, size_t bytes_max) {
    for (const Part& part : parts_) {
      if (after >= part.end) continue;
      auto records =
          part.buffer->read(std::max(after, part.before) - part.before, count, bytes_max);
      if (!records || !records->empty()) {
        if (records)
          for (StoredRecord& stored : *records) stored.sequence += part.before;
        return records;
      }
    }
    return std::vector<StoredRecord>{};
  }

  Result<uint64_t> append(const TraceRecord&) override {
    return Status::invalid("a recording is read only");
  }
  Result<std::vector<StoredRecord>> read(uint64_t after, size_t count, size_t bytes_max) override {
    auto records = peek(after, count, bytes_max);
    if (!records) return records;
    std::erase_if(*records, [this](const StoredRecord& r) { return r.sequence > up_to_; });
    return records;
  }
  Status acknowledge(const std::string&, uint64_t) override { return Status::ok(); }
  Result<uint64_t> acknowledged(const std::string&) override { return uint64_t{0}; }
  Status remove_expired(int64_t) override { return Status::ok(); }
  Result<TraceBufferStats> stats() override {
    TraceBufferStats stats;
    stats.last_sequence = up_to_;
    return stats;
  }

 private:
  struct Part {
    std::unique_ptr<TraceBuffer> buffer;
    uint64_t before, end;  // sequence numbers before + 1 ... end
  };
  std::vector<Part> parts_;
  uint64_t up_to_ = 0;
};

struct Depths {
  std::vector<ReplayScore> served, frozen;  // one a depth

  explicit Depths(size_t count) : served(count), frozen(count) {}
};

void add(ReplayScore& sum, const ReplayScore& more) {
  sum.tokens += more.tokens;
  sum.steps += more.steps;
}

// The figures, made as the stream goes by.
class Report {
 public:
  explicit Report(const PrequentialOptions& options)
      : options_(options), window_(options.depths.size()), all_(options.depths.size()) {}

  void add_group(const std::vector<const TraceRecord*>& records, const std::vector<Leads>& leads,
                 const std::vector<Leads>& frozen) {
    for (size_t i = 0; i < records.size(); ++i) {
      const int served = records[i]->served_tokens();
      for (size_t d = 0; d < options_.depths.size(); ++d) {
        const ReplayScore score = walk(cut(leads[i], options_.depths[d]), served);
        add(window_.served[d], score);
        add(all_.served[d], score);
        if (!frozen.empty())
          add(window_.frozen[d], walk(cut(frozen[i], options_.depths[d]), served));
      }
      tokens_ += served;
      ++requests_;
      domain_ = window_requests_++ == 0         ? records[i]->domain
                : domain_ == records[i]->domain ? domain_
                                                : "mixed";
      if (requests_ % options_.window_requests == 0) end_window();
    }
  }

  void skip(int64_t tokens) { tokens_ += tokens; }
  int64_t tokens() const { return tokens_; }
  double last() const { return last_; }

  Status write(const TrainFigures& figures, double seconds, bool done) const {
    std::string text = std::string("{\"done\": ") + (done ? "true" : "false") + ", \"depths\": [";
    for (size_t d = 0; d < options_.depths.size(); ++d)
      text += (d > 0 ? ", " : "") + std::to_string(options_.depths[d]);
    text += "],\n \"windows\": [" + windows_ + "],\n \"accept_len\": " + list(all_.served);
    char tail[160];
    std::snprintf(tail, sizeof(tail),
                  ", \"trained_columns\": %llu, \"rows_per_s\": %.1f, \"seconds\": %.1f}\n",
                  static_cast<unsigned long long>(figures.trained_columns),
                  figures.training_s > 0
                      ? static_cast<double>(figures.trained_columns) / figures.training_s
                      : 0.0,
                  seconds);
    return write_file_atomically(options_.json, text + tail, 0644);
  }

 private:
  static Leads cut(const Leads& leads, int depth) {
    Leads out = leads;
    for (uint8_t& lead : out) lead = std::min(lead, static_cast<uint8_t>(depth));
    return out;
  }

  static std::string list(const std::vector<ReplayScore>& scores) {
    std::string out = "[";
    for (const ReplayScore& score : scores) {
      char text[32];
      std::snprintf(text, sizeof(text), "%s%.4f", out.size() > 1 ? ", " : "", score.accept_len());
      out += text;
    }
    return out + "]";
  }

  void end_window() {
    last_ = window_.served[0].accept_len();
    windows_ += windows_.empty() ? "\n  " : ",\n  ";
    windows_ += "{\"requests\": " + std::to_string(requests_) +
                ", \"served_tokens\": " + std::to_string(tokens_) + ", \"domain\": \"" + domain_ +
                "\", \"accept_len\": " + list(window_.served);
    if (window_.frozen[0].steps > 0) windows_ += ", \"frozen_accept_len\": " + list(window_.frozen);
    windows_ += "}";
    window_ = Depths(options_.depths.size());
    window_requests_ = 0;
  }

  const PrequentialOptions& options_;
  Depths window_, all_;
  std::string windows_, domain_;
  int64_t tokens_ = 0;
  int requests_ = 0, window_requests_ = 0;
  double last_ = 1.0;
};

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
  auto fingerprint = file_fingerprint(train.model);
  if (!fingerprint) return fingerprint.status();
  auto recording = Recording::open(options.trace_dbs);
  if (!recording) return recording.status();
  parts.recording = std::move(*recording);
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
      if (Status s = one_group(*group); !s) return s;
      seconds_ = static_cast<double>(steady_us() - start) / 1e6;
      if (Status s = report_.write(loop_.figures(), seconds_, false); !s) return s;
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
    while (static_cast<int>(group.size()) < options_.group_requests) {
      if (options_.tokens_max > 0 && seen_ >= options_.tokens_max) break;
      auto one = parts_.recording->peek(cursor_, 1, kReadBytes);
      if (!one) return one.status();
      if (one->empty()) break;
      cursor_ = one->front().sequence;
      if (one->front().record.target != parts_.loop.target) continue;
      seen_ += one->front().record.served_tokens();
      group.push_back(std::move(one->front()));
    }
    return group;
  }

  Status one_group(const std::vector<StoredRecord>& group) {
    std::vector<const TraceRecord*> records;
    for (const StoredRecord& stored : group) {
      records.push_back(&stored.record);
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
    report_.add_group(records, *leads, frozen);
    return Status::ok();
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
  Report report_;
  TrainLoop loop_;
  std::unique_ptr<Scorer> frozen_;
  std::string domain_;
  uint64_t cursor_ = 0;
  int64_t seen_ = 0, columns_ = 0;
  double seconds_ = 0;
};

template <typename T>
bool read_number(const std::string& text, T least, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out >= least;
}

bool read_depths(const std::string& text, std::vector<int>& out) {
  out.clear();
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    int depth = 0;
    if (!read_number(text.substr(at, end - at), 1, depth) || depth > 16) return false;
    out.push_back(depth);
    at = end + 1;
  }
  std::sort(out.begin(), out.end());
  return true;
}

bool set_option(PrequentialOptions& o, const std::string& flag, const std::string& value) {
  if (flag == "--trace-db") {
    o.trace_dbs.push_back(value);
    return !value.empty();
  }
  if (flag == "--json") return !(o.json = value).empty();
  if (flag == "--depths") return read_depths(value, o.depths);
  if (flag == "--tokens") return read_number<int64_t>(value, 0, o.tokens_max);
  if (flag == "--group") return read_number(value, 1, o.group_requests);
  if (flag == "--window") return read_number(value, 1, o.window_requests);
  if (flag == "--passes") return read_number(value, 0.0, o.passes);
  if (flag == "--offline-tokens") return read_number<int64_t>(value, 0, o.offline_tokens);
  if (flag == "--freeze-at-shift") {
    o.freeze_at_shift = value == "on";
    return value == "on" || value == "off";
  }
  return false;
}

}  // namespace

Result<PrequentialOptions> parse_prequential_options(const std::vector<std::string>& args) {
  PrequentialOptions options;
  options.depths = {4};
  size_t i = 0;
  for (; i < args.size() && args[i] != "--"; i += 2) {
    if (i + 1 == args.size()) return Status::invalid(args[i] + " needs a value");
    if (!set_option(options, args[i], args[i + 1]))
      return Status::invalid("impossible flag or value: " + args[i] + " " + args[i + 1]);
  }
  if (options.trace_dbs.empty() || options.json.empty())
    return Status::invalid(
        "give --trace-db DIR and --json FILE, then -- and flags of aurora train");
  const size_t recipe = std::min(i + 1, args.size());
  auto train = parse_train_options({args.begin() + static_cast<ptrdiff_t>(recipe), args.end()});
  if (!train) return train.status();
  options.train = std::move(*train);
  return options;
}

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
