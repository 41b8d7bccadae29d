// The prompts of a bench, in the order in which they are asked.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "lab/flywheel_options.h"
#include "replay/traffic.h"

namespace aurora {

class PromptStream {
 public:
  // invalid: the files hold too few. Keeps options.count prompts for each number of slots back,
  // from the end: of the last file where they are ordered.
  static Result<PromptStream> open(const FlywheelOptions& options);

  // Up to `count` of one part; none: the traffic is at its end. `served`: tokens so far.
  std::span<const Prompt> next(size_t count, int64_t served);
  size_t part() const { return part_; }  // of what next() gave last: the file, where ordered
  const std::string& part_name() const { return parts_[part_].name; }

  // Those that next() gave last, of the same part: at most so many.
  std::span<const Prompt> given(size_t count) const;
  // Those kept back for the i-th number of slots.
  std::span<const Prompt> kept_back(size_t i) const;

 private:
  struct Part {
    std::string name;
    std::vector<Prompt> prompts;
    int64_t until_tokens = 0;  // served tokens at which the next one begins
  };
  std::vector<Part> parts_;
  std::vector<Prompt> kept_back_;
  size_t count_ = 0, part_ = 0, at_ = 0;
};

// Random letters of many scripts, and questions in a language that changes with every one.
std::vector<Prompt> hostile_prompts(size_t count, uint32_t seed);

}  // namespace aurora
