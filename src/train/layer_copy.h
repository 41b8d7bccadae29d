// The numbers of a draft that starts as the target's last layer, as far as the two are alike. What
// a draft lacks (norms of queries, keys and outcomes, scales) becomes part of its matrices, sized
// for inputs that point nowhere in particular; what cannot be copied reads at random and writes
// nothing. No LibTorch.
#pragma once

#include <cstdint>

#include "draft/draft_weights.h"
#include "train/target_layer.h"

namespace aurora {

struct LayerCopyOptions {
  bool centred = false;          // the target's norms take the mean off (LayerNorm)
  bool interleaved_rope = true;  // RoPE turns neighbouring values, as a draft's does
  int rotated = 0;               // values of a head that RoPE turns, the first ones
  bool gelu_gate = false;        // the MLP's gate is GELU, a draft's is SiLU
};

// Sets fc, hidden_norm, the attention, ffn_norm and the MLP. draft.shape is that of `layer`.
void copy_layer(const TargetLayer& layer, const LayerCopyOptions& options, DraftWeights& draft);

}  // namespace aurora
