#include "metrics/trainer_status.h"

#include <cmath>
#include <map>

#include "base/files.h"
#include "metrics/metrics.h"
#include "metrics/parse.h"

namespace aurora {
namespace {

constexpr size_t kStatusBytesMax = 64 << 10;
constexpr double kCountMax = 9e15;  // every whole number up to here is a double
constexpr bool kCounter = true, kGauge = false, kNeeded = true, kOptional = false;
constexpr const char* kLeftOut = "aurora:trainer_left_out_records_total";
constexpr const char* kLeftOutHelp =
    "Traces not learnt from, by cause; of another target and too short is no fault.";

using S = TrainerStatus;
constexpr TrainerFigure kFigures[] = {
    {&S::updated_ms, "aurora:trainer_updated_ms", "Unix time of this report.", kGauge, kNeeded},
    {&S::lag_records, "aurora:trainer_lag_records", "Traces that the trainer has yet to read.",
     kGauge, kNeeded},
    {&S::rows_per_second, "aurora:trainer_rows_per_second", "Rows that the trainer learns from.",
     kGauge, kNeeded},
    {&S::steps, "aurora:trainer_steps_total", "Optimizer steps of the trainer.", kCounter, kNeeded},
    {&S::dropped_records, "aurora:trainer_dropped_records_total",
     "Traces that the trainer could not learn from, or has died of.", kCounter, kNeeded},
    {&S::cpu_seconds, "aurora:trainer_cpu_seconds_total",
     "CPU time of the trainer; its rate is the cores that it has.", kCounter},
    {&S::loss, "aurora:trainer_loss", "Running mean of the trainer's loss."},
    {&S::holdout_accept_len, "aurora:trainer_holdout_accept_length",
     "Accept length of the last offer, replayed on held-out requests; 0: none yet."},
    {&S::draft_version, "aurora:trainer_draft_version",
     "Draft version that the trainer published last, 0: none."},
    {&S::next_offer_records, "aurora:trainer_next_offer_records",
     "Traces to come until the next draft is offered for publication; 0: it is due."},
    {&S::offers, "aurora:trainer_offers_total", "Drafts that were measured for publication.",
     kCounter},
    {&S::published, "aurora:trainer_published_total", "Drafts published.", kCounter},
    {&S::went_back, "aurora:trainer_went_back_total",
     "Times that the loss rose and training went back to a good draft.", kCounter},
    {&S::trained_tokens, "aurora:trainer_trained_tokens_total",
     "Tokens served to users in the traces taken in.", kCounter},
    {&S::left_out_foreign, kLeftOut, kLeftOutHelp, kCounter, kOptional, "cause=\"foreign\""},
    {&S::left_out_short, kLeftOut, kLeftOutHelp, kCounter, kOptional, "cause=\"short\""},
    {&S::left_out_shape, kLeftOut, kLeftOutHelp, kCounter, kOptional, "cause=\"shape\""},
    {&S::left_out_token, kLeftOut, kLeftOutHelp, kCounter, kOptional, "cause=\"token\""},
    {&S::left_out_not_finite, kLeftOut, kLeftOutHelp, kCounter, kOptional, "cause=\"not_finite\""},
    {&S::left_out_failed, kLeftOut, kLeftOutHelp, kCounter, kOptional, "cause=\"failed\""},
};

std::string key_of(const TrainerFigure& figure) {
  const std::string labels = figure.labels;
  return labels.empty() ? figure.name : figure.name + ("{" + labels + "}");
}

}  // namespace

std::span<const TrainerFigure> trainer_figures() { return kFigures; }

Status write_trainer_status(const std::string& path, const TrainerStatus& status) {
  Metrics metrics;
  for (const TrainerFigure& f : kFigures) {
    Gauge& shown = f.counter ? metrics.counter_of_another(f.name, f.help, f.labels)
                             : metrics.gauge(f.name, f.help, f.labels);
    shown.set(status.*f.value);
  }
  return write_file_atomically(path, metrics.text());
}

Result<TrainerStatus> read_trainer_status(const std::string& path) {
  const Result<std::string> text = read_file(path, kStatusBytesMax);
  if (!text) return text.status();
  const std::map<std::string, double> samples = parse_metrics(*text);
  TrainerStatus status;
  for (const TrainerFigure& f : kFigures) {
    const auto found = samples.find(key_of(f));
    // Also false for NaN.
    const bool usable = found != samples.end() && std::abs(found->second) < kCountMax;
    if (usable) status.*f.value = found->second;
    else if (f.needed) return Status::corrupt(path + " has no usable " + f.name);
  }
  return status;
}

bool is_alive(const TrainerStatus& status, int64_t now_ms) {
  return static_cast<double>(now_ms) - status.updated_ms <= kTrainerSilenceMsMax;
}

}  // namespace aurora
