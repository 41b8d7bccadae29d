// Reads and writes a draft as GGUF in llama.cpp's `eagle3` architecture: loads in `llama-server
// -md` of the same build.
#pragma once

#include <string>

#include "base/status.h"
#include "draft/draft_weights.h"

namespace aurora {

enum class DraftDtype { kF32, kF16, kQ8_0 };  // matrices; norms stay F32, d2t I64

// Tokenizer keys are copied from the target's GGUF at target_path (llama.cpp compares the
// vocabularies).
Status write_draft_file(const std::string& path, const DraftWeights& weights,
                        const std::string& target_path, DraftDtype dtype);
Result<DraftWeights> read_draft_file(const std::string& path);  // dequantised

}  // namespace aurora
