// Flags of `aurora bench verify` and `aurora bench learn`.
#pragma once

#include <string>
#include <vector>

#include "base/flags.h"
#include "base/status.h"
#include "train/prequential_options.h"

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

CommandLine bench_verify_command(BenchOptions& options);
// The words behind `aurora bench verify`.
Result<BenchOptions> parse_bench_options(const std::vector<std::string>& args);

struct BenchLearnOptions {
  std::string model, variants, out;
  PrequentialOptions checked;    // what `run` says
  std::vector<std::string> run;  // flags handed on to aurora-train prequential
  bool help = false;
};

CommandLine bench_learn_command(BenchLearnOptions& options);
// invalid: one sentence. `options` may not be moved.
Status parse_bench_learn_options(const std::vector<std::string>& args, BenchLearnOptions& options);

}  // namespace aurora
