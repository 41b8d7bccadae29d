// Is this draft file safe to load, and does it fit the target? Asked before llama.cpp sees the
// file, because its loader and its graph abort the process on some bad values. Any thread; reads
// the whole file once (for the loader thread, not for the decode thread). Never aborts, whatever
// the bytes.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "draft/draft_weights.h"
#include "draft/tokenizer_digest.h"

namespace aurora {

struct DraftTarget {
  int hidden = 0;
  int vocab = 0;
  int layers = 0;
  TokenizerDigest tokenizer;  // empty: only the number of tokens is compared
};

struct DraftFileInfo {
  DraftShape shape;
  int64_t vocab = 0;  // draft vocabulary: rows of d2t
  uint64_t bytes = 0;
};

// The status is one sentence that begins with the path. truncated: tensor data beyond the end of
// the file. corrupt: not a GGUF, a broken header, impossible values, a weight that is not finite.
// invalid: sound, but for another target or of another architecture. not found, io: the file cannot
// be read.
Result<DraftFileInfo> check_draft_file(const std::string& path, const DraftTarget& target);

}  // namespace aurora
