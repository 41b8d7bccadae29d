// One turn of requests to one server.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lab/flywheel_figures.h"
#include "replay/http_client.h"
#include "replay/traffic.h"

namespace aurora {

struct AskOptions {
  std::string url;
  int tokens_max = 80;
  double temperature = 0;
  uint32_t seed = 20;
  bool speculate = true;
  bool cache_prompt = true;
};

struct Turn {
  std::vector<Result<Answer>> answers;  // as the prompts
  double wall_s = 0;

  bool whole() const;  // none failed
  // One answer: of its decoding alone. Several: of the time until the last of them was there.
  Rate rate() const;
};

// All at once, streamed. Blocks until the last answer is there.
Turn ask(std::span<const Prompt> prompts, const AskOptions& options);

// How many texts of `a` are those of `b`.
size_t same_texts(const Turn& a, const Turn& b);

}  // namespace aurora
