// What a verify batch costs on this machine, and from which accept length on a draft pays.
#pragma once

#include "llama.h"

namespace aurora {

struct VerifyCost {
  double single_ms = 0;  // T(1)
  double verify_ms = 0;  // T(1 + depth)
  int32_t depth = 0;

  // A step costs T(1 + N) and yields `accept length` tokens; without speculation a token costs
  // T(1). The draft's own time adds N times draft_share of T(1) (design: "A draft serves only where
  // it pays").
  double pays_above(double draft_share) const {
    return single_ms <= 0 ? 1.0 : verify_ms / single_ms + depth * draft_share;
  }
};

// Decodes a few times on sequence 0 of an idle context and empties its memory again. Median of
// interleaved runs: about ten single steps and ten verify steps in all. Must be called before the
// first request.
VerifyCost measure_verify_cost(llama_context* target, int32_t depth);

}  // namespace aurora
