// What the live page is told, and its switches.
#include "base/clock.h"
#include "base/json_text.h"
#include "metrics/parse.h"
#include "speculator/speculator.h"

namespace aurora {

// Decode thread.
void Speculator::note_live() {
  if (!service_) return;
  const DraftService::Pace& pace = service_->pace();
  const auto taken = [this](DraftArm arm) {
    return static_cast<double>(service_->figures(arm).accepted);
  };
  live_.add({static_cast<double>(unix_ms()), static_cast<double>(serve_.generated_tokens.value()),
             static_cast<double>(serve_.target_steps.value()), pace.tokens, pace.ms, pace.plain_ms,
             taken(DraftArm::kRequestText), taken(DraftArm::kTrafficText), taken(DraftArm::kChain),
             taken(DraftArm::kBehind), serve_.draft_version.value(),
             serve_.trainer(&TrainerStatus::rows_per_second),
             serve_.trainer(&TrainerStatus::steps)});
}

void Speculator::happened(const char* kind, int64_t version, std::string text) {
  LiveEvent event;
  event.at_ms = unix_ms();
  event.tokens = serve_.generated_tokens.value();
  event.kind = kind;
  event.version = version;
  event.text = std::move(text);
  live_.happened(std::move(event));
}

std::string Speculator::live_state(const std::string& seen) {
  std::string figures;
  const std::string text = metrics_text();
  for (const auto& [name, value] : parse_metrics(text))
    figures += (figures.empty() ? "" : ",") + json_quoted(name) + ":" + json_number(value);
  return "{\"format\":1,\"now_ms\":" + std::to_string(unix_ms()) +
         ",\"drafting\":" + (drafting_ ? "true" : "false") +
         ",\"training\":" + (training_ ? "true" : "false") + ",\"figures\":{" + figures + "}," +
         live_.json(seen) + "}";
}

std::string Speculator::turn(const std::string& what, const std::string& to) {
  if (to != "on" && to != "off") return "'to' is on or off";
  const bool on = to == "on";
  if (what == "drafting") {
    if (drafting_.exchange(on) != on) happened(on ? "drafting_on" : "drafting_off", 0, "by hand");
    return "";
  }
  if (what != "training") return "'what' is drafting or training";
  if (!options_.train || !options_.train(on)) return "no trainer runs beside this server";
  if (!on && lender_) lender_->forget_wish();  // who stands still needs no core
  if (training_.exchange(on) != on) happened(on ? "training_on" : "training_off", 0, "by hand");
  return "";
}

}  // namespace aurora
