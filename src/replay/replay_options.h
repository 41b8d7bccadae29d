// The command line of `aurora replay`.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/flags.h"
#include "base/status.h"
#include "replay/traffic.h"

namespace aurora {

struct ReplayOptions {
  std::vector<std::string> files;
  std::string url = "http://127.0.0.1:8080";
  std::string api_key;
  TrafficOptions traffic;
  size_t concurrency = 1;
  size_t baseline_every = 0;
  int tokens_max = 80;
  double temperature = 0;
  std::string json_path, html_path, svg_path;
  bool help = false;
};

CommandLine replay_command(ReplayOptions& options);
// invalid: names the argument that is wrong.
Result<ReplayOptions> parse_replay_options(const std::vector<std::string>& args);

}  // namespace aurora
