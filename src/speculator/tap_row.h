// The target's hidden states as traces keep them.
#pragma once

#include <cstdint>
#include <span>

namespace aurora {

// fp16 bits of `from`, rounded to nearest. A number beyond fp16's range becomes the largest that
// there is, of its sign: some targets make such activations, and infinity could not be learnt from.
// NaN stays NaN: a trainer leaves the record out. to.size() == from.size().
void taps_to_fp16(std::span<const float> from, std::span<uint16_t> to);

}  // namespace aurora
