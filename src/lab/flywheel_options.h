// The command line of `aurora bench flywheel`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/flags.h"
#include "base/status.h"

namespace aurora {

enum class Stream { kMixed, kOrdered, kHostile };

struct FlywheelOptions {
  std::string model;
  std::vector<std::string> prompts;  // traffic files
  Stream stream = Stream::kMixed;
  int64_t learn_tokens = 20'000;
  size_t count = 24;  // prompts that all arms are asked, for each number of slots
  int tokens_max = 200;
  std::vector<int> slots = {1};  // the first of them while it learns
  double temperature = 0;
  uint32_t seed = 20;
  std::vector<std::string> arms;  // names; see lab/flywheel_arms.h
  int64_t static_tokens = 0;      // 0: no frozen draft beside
  size_t warm = 0;                // of the prompts learnt from, asked of every other server first
  size_t pair_every = 3;          // 0: never
  bool trainer_beside = false;    // it goes on while the learning server is asked with the others
  bool quick = false;
  std::string stock;  // the plain llama-server
  std::string json_path, html_path, svg_path, merge_path;
  std::string keep;                       // folder for states and logs; "": one that is removed
  std::vector<std::string> server_flags;  // of all servers
  bool help = false;

  int slots_max() const;
};

// `args`: the words behind `bench flywheel`. invalid: names the argument that is wrong.
Result<FlywheelOptions> parse_flywheel_options(const std::vector<std::string>& args);
CommandLine flywheel_command(FlywheelOptions& options);
const char* to_string(Stream stream);

}  // namespace aurora
