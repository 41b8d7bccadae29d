// What of a target's last layer a draft can begin with: found by its tensors and keys, not by the
// architecture's name. No LibTorch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "draft/model_files.h"

namespace aurora {

// Some rows of a tensor: the keys of a fused qkv, one expert's, or all.
struct TensorRows {
  GgufTensor tensor;
  int64_t first = 0;
  int64_t rows = 0;
};

struct LayerAttention {
  int heads = 0, kv_heads = 0, head_dim = 0;
  TensorRows q, k, v, o;
  std::optional<GgufTensor> q_norm, k_norm;  // of each head, or of all of them at once
  float score_scale = 0;                     // in place of 1 / sqrt(head_dim); 0: that
};

// gate, up: [width, D]; down: [D, width]. An MLP, or one expert of several.
struct LayerUnits {
  TensorRows gate, up, down;
  float weight = 1;  // of what it writes
};

struct TargetLayer {
  std::optional<LayerAttention> attention;  // none: starts at random
  std::vector<LayerUnits> mlp;              // side by side; none: starts at random
  int width = 0;                            // of the MLP, for one token
  // [D], none: ones. The outcomes' norms (gemma2, olmo2) are those of what a part writes.
  std::optional<GgufTensor> attention_norm, mlp_norm, attention_outcome_norm, mlp_outcome_norm;
  float residual_scale = 1;  // of what a part writes
  // What does not come along, and why: a sentence each, for the log.
  std::vector<std::string> notes;
};

TargetLayer find_target_layer(const ModelFile& target, const std::string& architecture, int hidden,
                              int layer);

}  // namespace aurora
