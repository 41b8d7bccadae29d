// A server's loop around the draft service in the toy world, and the same traffic by a fixed arm.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sim/toy_world.h"
#include "speculator/draft_service.h"

namespace aurora::sim {

// At `step` traffic turns to `domain` (if >= 0), or a version is there (if > 0).
struct Happening {
  int64_t step = 0;
  int domain = -1;
  int64_t version = 0;
  std::vector<double> chances;  // of the version, by domain
  double replay_accept_len = 0;
  bool broken = false;
  double slower = 0;  // > 0: from now on steps take so many times as long
};

struct Scenario {
  Machine machine;
  std::vector<Domain> domains;
  std::vector<Happening> happenings;  // by rising step
  std::vector<int> mix;               // domains in turn, request by request; empty: as it happens
  bool kinds_told = true;             // the service hears which requests have a grammar
  int slots = 1;
  int64_t steps = 4000;
  int64_t window = 500;
};

struct RunResult {
  std::vector<double> window_rate;  // tokens a millisecond
  std::vector<double>
      domain_rate;  // tokens a millisecond of its own requests, where one slot serves
  std::vector<VersionVerdict> verdicts;
  std::vector<int64_t> verdict_steps;
  std::vector<int64_t> serving;  // version at the end of each window
  int64_t retired = 0;
};

// What a fixed arm does: no draft, repeated text, or the newest sound version, to a fixed depth.
struct FixedArm {
  enum Kind { kNone, kRepeat, kChain } kind = kNone;
  int depth = 0;
};

RunResult run_service(const Scenario& scenario, const DraftServiceOptions& options, uint64_t seed);
RunResult run_fixed(const Scenario& scenario, const FixedArm& arm, uint64_t seed);

}  // namespace aurora::sim
