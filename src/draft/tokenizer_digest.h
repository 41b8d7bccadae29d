// What makes two files number the same tokens alike: of the target, and of each draft for it.
#pragma once

#include <map>
#include <string>

#include "base/status.h"
#include "draft/gguf_file.h"

namespace aurora {

// tokenizer.ggml.* key -> sha256 of its value.
using TokenizerDigest = std::map<std::string, std::string>;

TokenizerDigest tokenizer_digest(const GgufFile& file);
Result<TokenizerDigest> tokenizer_digest(const std::string& gguf_path);

}  // namespace aurora
