// What drafting did for one request, for whoever asked with X-Aurora-Figures: on. Counts alone; one
// owner, the decode thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "speculator/draft_service.h"

namespace aurora {

class RequestFigures {
 public:
  void step() { ++by_accepted_[0]; }  // accept() moves it where tokens were accepted
  void drafted(size_t tokens, int64_t version);
  void accept(int32_t accepted);
  // JSON of one object; `tokens`: served so far.
  std::string text(size_t tokens, const DraftService::Figures& arms) const;

 private:
  std::array<uint64_t, kDraftDepthMax + 1> by_accepted_{};  // steps by accepted tokens
  uint64_t drafts_ = 0, drafted_ = 0;
  int64_t version_ = 0;  // of the learnt draft that drafted last
};

}  // namespace aurora
