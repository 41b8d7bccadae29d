// Flags of `aurora rollouts`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/flags.h"
#include "base/status.h"

namespace aurora {

struct RolloutOptions {
  std::string model;                          // the target: other targets' prompts are left alone
  std::string state;                          // its traces/ are read
  std::string buffer;                         // nats://...; empty: LMDB in state
  std::string url = "http://127.0.0.1:8080";  // the server that answers
  std::string api_key;                        // or AURORA_API_KEY, LLAMA_API_KEY
  int each = 4;                               // rollouts of a prompt
  int prompts = 512;                          // the newest; older ones are left alone
  int in_flight = 0;                          // at once; 0: as many as the server has slots
  double temperature = 1;
  int tokens_max = 256;
  double idle_s = 2;  // so long after the server was busy they try again
  bool once = false;  // leave when every prompt has its rollouts
  bool help = false;
};

CommandLine rollout_command(RolloutOptions& options);
// invalid: one sentence that says what to do.
Result<RolloutOptions> parse_rollout_options(const std::vector<std::string>& args);

// A flag of llama-server: the last one given, or its environment's, or `otherwise`.
std::string server_value(const std::vector<std::string>& server_args, const std::string& flag,
                         const char* environment, const char* otherwise);

// Where a llama-server with these arguments listens. invalid: not where plain HTTP over TCP gets.
Result<std::string> server_url(const std::vector<std::string>& server_args);

}  // namespace aurora
