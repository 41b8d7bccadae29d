// What drafting did for one request, for whoever asked with X-Aurora-Figures: on. Counts alone, and
// a byte a step; one owner, the decode thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "speculator/draft_service.h"

namespace aurora {

class RequestFigures {
 public:
  void step();  // accept() follows where a draft was verified
  void drafted(size_t tokens, int64_t version);
  void accept(int32_t accepted);
  // JSON of one object; `tokens`: served so far.
  std::string text(size_t tokens, const DraftService::Figures& arms) const;

 private:
  static constexpr size_t kStepsListed = 4096;

  std::array<uint64_t, kDraftDepthMax + 1> by_accepted_{};  // steps by accepted tokens
  uint64_t steps_ = 0;
  std::vector<uint8_t> by_step_;  // accepted tokens, step by step, at most kStepsListed
  uint64_t drafts_ = 0, drafted_ = 0;
  int64_t version_ = 0;  // of the learnt draft that drafted last
};

}  // namespace aurora
