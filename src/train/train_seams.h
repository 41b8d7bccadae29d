// What the trainer's loop is joined to.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "registry/registry.h"
#include "trace/trace_buffer.h"
#include "train/learner.h"
#include "train/rank_group.h"

namespace aurora {

// What the loop needs from the outside. References and pointers outlive the loop.
struct TrainSeams {
  TraceBuffer& buffer;
  Registry& registry;
  Learner& learner;
  std::function<Status(const std::string& path, const DraftWeights&)> write_draft;
  std::function<Result<std::unique_ptr<Scorer>>(const std::string& path)> load_draft;
  std::function<void(double seconds)> sleep;
  // nullptr: alone. Otherwise every rank runs a loop over the same buffer, in step with the others;
  // rank 0 decides, judges, publishes, and writes the checkpoint.
  RankGroup* ranks = nullptr;
  // Between two rounds, where somebody listens: whether there is work for the next one.
  std::function<void(bool work)> next_step = {};
};

}  // namespace aurora
