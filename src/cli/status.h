// What `aurora status` knows of a fleet, and how it is shown.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

struct FleetMember {
  std::string name;
  std::string silent;                     // why it has no samples; empty: it has
  double age_s = 0;                       // of the samples
  std::map<std::string, double> samples;  // of its metrics, by name with labels
  std::string trainer_end = {};           // how its trainer last ended, and what it said
};

struct StoredTraces {
  uint64_t records = 0, bytes = 0;
};

struct FleetState {
  std::vector<FleetMember> members;
  std::optional<StoredTraces> traces;  // on the brokers, where they were asked
};

// Waits for a broker, seconds at most. invalid: no URL of brokers, or this build has no NATS
// client. unavailable: no broker answers.
Result<FleetState> ask_brokers(const std::string& buffer_url);

// A line for each server and trainer.
std::string fleet_table(const FleetState& fleet);
std::string fleet_json(const FleetState& fleet);

}  // namespace aurora
