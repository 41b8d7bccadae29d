// The one list of the tensors that a draft file holds, with their shapes: writing, reading,
// checking and converting follow it.
#pragma once

#include <vector>

#include "draft/draft_weights.h"

namespace aurora {

struct DraftTensor {
  const char* name;  // in GGUF
  int64_t rows;
  int64_t cols;
  bool matrix;                               // norms stay F32
  std::vector<float> DraftWeights::*weight;  // null: of a variant that is not trained here
  bool optional = false;
};

// vocab: the draft's. All but d2t ([vocab], I64), which is no weight. Those without `weight` come
// last.
std::vector<DraftTensor> draft_tensors(const DraftShape& shape, int64_t vocab);

}  // namespace aurora
