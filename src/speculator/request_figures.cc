#include "speculator/request_figures.h"

#include <algorithm>
#include <cstdio>

namespace aurora {
namespace {

constexpr std::array<const char*, kDraftArmCount> kArms = {"", "request_text", "traffic_text",
                                                           "chain", "behind"};

std::string field(const char* name, uint64_t value) {
  return "\"" + std::string(name) + "\":" + std::to_string(value);
}

}  // namespace

void RequestFigures::step() {
  ++by_accepted_[0];
  if (steps_++ < kStepsListed) by_step_.push_back(0);
}

void RequestFigures::drafted(size_t tokens, int64_t version) {
  ++drafts_;
  drafted_ += tokens;
  if (version > 0) version_ = version;
}

void RequestFigures::accept(int32_t accepted) {
  const size_t most = by_accepted_.size() - 1;
  if (by_accepted_[0] == 0) return;
  const size_t count = std::min(static_cast<size_t>(std::max(accepted, 0)), most);
  --by_accepted_[0];
  ++by_accepted_[count];
  if (steps_ == by_step_.size()) by_step_.back() = static_cast<uint8_t>(count);
}

std::string RequestFigures::text(size_t tokens, const DraftService::Figures& arms) const {
  uint64_t steps = 0, accepted = 0;
  size_t last = 0;
  for (size_t i = 0; i < by_accepted_.size(); ++i) {
    steps += by_accepted_[i];
    accepted += i * by_accepted_[i];
    if (by_accepted_[i] > 0) last = i;
  }
  char mean[32];
  std::snprintf(mean, sizeof mean, "%.3f",
                steps > 0 ? static_cast<double>(tokens) / static_cast<double>(steps) : 0.0);
  std::string histogram, by_arm, by_step;
  for (const uint8_t count : by_step_)
    by_step += (by_step.empty() ? "" : ",") + std::to_string(count);
  for (size_t i = 0; i <= last; ++i)
    histogram += (i > 0 ? "," : "") + std::to_string(by_accepted_[i]);
  for (size_t arm = 1; arm < arms.size(); ++arm) {
    if (arms[arm].drafted == 0) continue;
    by_arm += (by_arm.empty() ? "\"" : ",\"") + std::string(kArms[arm]) + "\":{" +
              field("drafted", arms[arm].drafted) + "," + field("accepted", arms[arm].accepted) +
              "}";
  }
  return "{\"accept_length\":" + std::string(mean) + "," + field("tokens", tokens) + "," +
         field("steps", steps) + "," + field("drafts", drafts_) + "," + field("drafted", drafted_) +
         "," + field("accepted", accepted) + ",\"accepted_by_step\":[" + histogram +
         "],\"steps_accepted\":[" + by_step + "]," +
         field("draft_version", static_cast<uint64_t>(version_)) + ",\"arms\":{" + by_arm + "}}";
}

}  // namespace aurora
