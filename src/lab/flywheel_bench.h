// What the phases of `aurora bench flywheel` share.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "lab/asking.h"
#include "lab/flywheel_figures.h"
#include "lab/flywheel_options.h"
#include "lab/progress.h"
#include "lab/server_child.h"

namespace aurora {

// Failed requests that end a run: by then the machine or the server is broken, not unlucky.
constexpr size_t kFailuresMax = 20;

struct FlywheelBench {
  const FlywheelOptions& options;
  const std::atomic<bool>& stop;  // asked to end: after the turn that runs
  std::string folder;             // states and logs
  Flywheel run = {};
  Progress progress = {};

  // `aurora serve` or llama-server with the flags of all servers behind `flags`.
  Result<std::unique_ptr<ServerChild>> start_ours(const std::string& name,
                                                  const std::vector<std::string>& flags);
  Result<std::unique_ptr<ServerChild>> start_stock(const std::string& name,
                                                   const std::vector<std::string>& flags);
  std::string state_of(const std::string& name) const { return folder + "/" + name; }

  AskOptions asking(const ServerChild& server) const;
  // Asks, and counts what failed.
  Turn ask_counted(std::span<const Prompt> prompts, const AskOptions& how);
  Status go_on() const;  // unavailable: too much has failed
};

// The learning server serves the stream; pairs and a frozen draft beside it.
class PromptStream;
Status run_learning(FlywheelBench& bench, ServerChild& learning, PromptStream& stream);

// All arms are asked the prompts that were kept back.
Status run_arms(FlywheelBench& bench, ServerChild& learning, const PromptStream& stream);

}  // namespace aurora
