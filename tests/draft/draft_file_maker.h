// Writes a tiny, sound draft file, with hooks to break it.
#pragma once

#include <ggml.h>
#include <gguf.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace aurora {

struct TinyDraft {
  int hidden = 64;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 16;
  int ff = 96;
  int target_vocab = 50;
  int tap_layers[3] = {1, 2, 5};
  std::vector<int64_t> d2t = {0, 3, 4, 17, 48, 49};
  ggml_type type = GGML_TYPE_F32;  // of the matrices
  std::string architecture = "eagle3";

  std::map<std::string, ggml_type> types;  // of single tensors
  std::map<std::string, int64_t> cols;
  std::vector<std::string> left_out;
  std::function<void(gguf_context*)> edit_keys = [](gguf_context*) {};
  // Called with each tensor's values before they are quantised.
  std::function<void(const std::string&, std::vector<float>&)> edit_values =
      [](const std::string&, std::vector<float>&) {};
};

void write_tiny_draft(const std::string& path, const TinyDraft& draft);

}  // namespace aurora
