// Which target layers are tapped: the INPUT of each. Server and trainer must agree, and the record
// carries them.
#pragma once

#include <algorithm>
#include <cstdint>

namespace aurora {

// {2, n/2, n-1}: low and middle as EAGLE-3 has them (arXiv 2503.01840, section 3.1); high is the
// input of the last layer, so that a draft which starts as a copy of that layer (fc = [0 0 I])
// starts as the target's own last step. A target of one or two layers has no layer 2.
inline void default_tap_layers(int32_t target_layers, int32_t out[3]) {
  out[0] = std::min(2, target_layers - 1);
  out[1] = target_layers / 2;
  out[2] = target_layers - 1;
}

}  // namespace aurora
