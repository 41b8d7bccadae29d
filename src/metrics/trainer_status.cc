#include "metrics/trainer_status.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/files.h"
#include "metrics/metrics.h"
#include "metrics/parse.h"

namespace aurora {
namespace {

constexpr const char* kUpdated = "aurora:trainer_updated_ms";
constexpr const char* kLag = "aurora:trainer_lag_records";
constexpr const char* kRows = "aurora:trainer_rows_per_second";
constexpr const char* kSteps = "aurora:trainer_steps_total";
constexpr const char* kDropped = "aurora:trainer_dropped_records_total";
constexpr const char* kLoss = "aurora:trainer_loss";
constexpr const char* kHoldout = "aurora:trainer_holdout_accept_length";
constexpr const char* kTokens = "aurora:trainer_trained_tokens_total";
constexpr const char* kOffers = "aurora:trainer_offers_total";
constexpr const char* kPublished = "aurora:trainer_published_total";
constexpr const char* kWentBack = "aurora:trainer_went_back_total";
constexpr size_t kStatusBytesMax = 64 << 10;
constexpr double kCountMax = 9e15;  // every whole number up to here is a double

uint64_t count_of(double sample) { return static_cast<uint64_t>(std::max(0.0, sample)); }

}  // namespace

Status write_trainer_status(const std::string& path, const TrainerStatus& status) {
  Metrics metrics;
  metrics.gauge(kUpdated, "Unix time of this report.").set(static_cast<double>(status.updated_ms));
  metrics.gauge(kLag, "Traces that the trainer has yet to read.").set(status.lag_records);
  metrics.gauge(kRows, "Rows that the trainer learns from.").set(status.rows_per_second);
  metrics.counter(kSteps, "Optimizer steps.").add(status.steps);
  metrics.counter(kDropped, "Traces that could not be learnt from.").add(status.dropped_records);
  metrics.gauge(kLoss, "Running mean of the loss.").set(status.loss);
  metrics.gauge(kHoldout, "Accept length of the last offer, replayed on held-out requests.")
      .set(status.holdout_accept_len);
  metrics.counter(kTokens, "Served tokens in the traces taken in.").add(status.trained_tokens);
  metrics.counter(kOffers, "Drafts that were measured for publication.").add(status.offers);
  metrics.counter(kPublished, "Drafts published.").add(status.published);
  metrics.counter(kWentBack, "Returns to the last good weights.").add(status.went_back);
  return write_file_atomically(path, metrics.text());
}

Result<TrainerStatus> read_trainer_status(const std::string& path) {
  const Result<std::string> text = read_file(path, kStatusBytesMax);
  if (!text) return text.status();
  const std::map<std::string, double> samples = parse_metrics(*text);
  for (const char* name : {kUpdated, kLag, kRows, kSteps, kDropped}) {
    const auto found = samples.find(name);
    // Also false for NaN.
    if (found == samples.end() || !(std::abs(found->second) < kCountMax)) {
      return Status::corrupt(path + " has no usable " + name);
    }
  }
  const auto sample = [&samples](const char* name) {
    const auto found = samples.find(name);
    return found != samples.end() && std::abs(found->second) < kCountMax ? found->second : 0;
  };
  TrainerStatus status;
  status.updated_ms = static_cast<int64_t>(samples.at(kUpdated));
  status.lag_records = samples.at(kLag);
  status.rows_per_second = samples.at(kRows);
  status.steps = count_of(samples.at(kSteps));
  status.dropped_records = count_of(samples.at(kDropped));
  status.loss = sample(kLoss);
  status.holdout_accept_len = sample(kHoldout);
  status.trained_tokens = count_of(sample(kTokens));
  status.offers = count_of(sample(kOffers));
  status.published = count_of(sample(kPublished));
  status.went_back = count_of(sample(kWentBack));
  return status;
}

bool is_alive(const TrainerStatus& status, int64_t now_ms) {
  return now_ms - status.updated_ms <= kTrainerSilenceMsMax;
}

}  // namespace aurora
