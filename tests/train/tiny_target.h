// A toy target as a real GGUF: random weights, a byte tokenizer, loads in llama.cpp in
// milliseconds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace aurora {

struct TinyTarget {
  // One of tiny_architectures().
  std::string architecture = "llama";
  int hidden = 64;
  int heads = 4;
  int kv_heads = 2;
  int rotated = 0;  // values of a head that RoPE turns; 0: all
  int ff = 96;
  int layers = 6;
  int drafting_layers = 0;  // of them, the last ones: layers that draft themselves
  int context = 256;
  int window = 48;      // of those that have one
  bool tied = true;     // where the architecture lets it
  bool half = false;    // matrices in F16, which our kernels take
  int experts = 0;      // so many in each layer, two of them at work for a token
  bool alike = false;   // the router likes all experts alike
  bool copies = false;  // all experts are the first one
  uint32_t seed = 1;
  // Left out of the file, to make a target that is refused.
  std::string without_tensor = {};
  std::string without_key = {};
};

// The bytes, and two markers of a chat template: <|im_start|> (bos) and <|im_end|> (eos).
inline constexpr int kTinyVocab = 258;

// Each with what it has beside a llama's layer: experts, norms, biases, fused matrices.
std::vector<std::string> tiny_architectures();

// CHECKs that the architecture is known and the file could be written.
void write_tiny_target(const std::string& path, const TinyTarget& target);

// The values that tensor `name` of such a file has, [rows * cols].
std::vector<float> tiny_values(const std::string& name, size_t count, uint32_t seed);

}  // namespace aurora
