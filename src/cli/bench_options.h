// Flags of `aurora bench`.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace aurora {

struct BenchOptions {
  std::string model;
  std::string json;  // empty: only the table
  std::string text;  // file of which to take the perplexity
  int threads = 0;   // parse_bench_options() fills in the machine's
  int context = 256;
  int rounds = 15;
  bool help = false;
};

// "verify -m MODEL ...", the words behind `aurora bench`.
Result<BenchOptions> parse_bench_options(const std::vector<std::string>& args);
std::string bench_help();

}  // namespace aurora
