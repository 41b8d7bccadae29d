// A draft version at work, as the service sees it: DraftEngine in the server, a toy in tests.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "aurora_seam.h"
#include "base/status.h"

namespace aurora {

struct ChainWish {
  int32_t slot = 0;
  const KeptRows* rows = nullptr;  // [0, n): the tokens in the target's KV
  int32_t next = 0;                // x_n, served and not decoded yet
  std::vector<int32_t> tokens;     // out
  std::vector<float> probs;        // out, the draft's own probability of each
};

// Not thread-safe: one thread at a time owns it.
class ChainDrafter {
 public:
  virtual ~ChainDrafter() = default;

  virtual int64_t version() const = 0;
  // Rows that begin() would have to build first.
  virtual int32_t rows_missing(int32_t slot, const KeptRows& rows) const = 0;
  // The first token of each wish; none where too many rows were missing for one step: the next
  // begin() goes on. On an error no wish holds a token.
  virtual Status begin(std::span<ChainWish* const> wishes) = 0;
  // One more token of each; all of them took part in the last begin() or next().
  virtual Status next(std::span<ChainWish* const> wishes) = 0;
  virtual void set_threads(int32_t threads) = 0;
};

}  // namespace aurora
