// A draft as its file holds it: shape, variant, and each tensor's bytes in its own type. What is
// imported and exported goes through this, so that no number changes on the way. The one reader and
// writer of draft GGUFs: draft_file.h puts fp32 weights on top.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "draft/draft_weights.h"
#include "draft/gguf_file.h"

namespace aurora {

struct RawTensor {
  ggml_type type = GGML_TYPE_F32;
  std::vector<std::byte> bytes;  // row major, as in the file
};

struct RawDraft {
  DraftShape shape;
  // Variants of EAGLE-3 that llama.cpp serves and that are not trained here.
  bool norm_before_residual = false;
  bool norm_before_fc = false;
  std::string rope_scaling = "none";  // or "linear", "yarn"
  float rope_factor = 1;
  std::vector<int64_t> d2t;                  // absolute target ids, rising
  std::map<std::string, RawTensor> tensors;  // by the names of draft_tensors()
};

// invalid: of another architecture. corrupt, truncated: it cannot be a draft. What is read is of
// the shape that it says; whether it fits a target, check_draft_file says.
Result<RawDraft> read_raw_draft(const std::string& path);

// llama.cpp's `eagle3`, with the tokenizer.* keys of `tokenizer` (llama.cpp compares vocabularies).
// A file that could not be written whole may be left behind.
Status write_raw_draft(const std::string& path, const RawDraft& draft, const GgufFile& tokenizer);

// The same tensor [rows, cols] in another type; in its own, unchanged.
RawTensor convert(const RawTensor& tensor, int64_t rows, int64_t cols, ggml_type type);

// Q8_0 only where rows are whole blocks, F16 otherwise.
ggml_type fitting_type(ggml_type wanted, int64_t cols);

}  // namespace aurora
