// The draft as plain arrays: what a draft GGUF holds and what the trainer starts from. No LibTorch,
// no ggml. Matrices are row major [out, in] as in GGUF (ne = {in, out}). D = hidden, H = heads *
// head_dim, V = draft vocabulary.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace aurora {

struct DraftShape {
  int hidden = 0;  // D, of target and draft alike
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int ff = 0;
  int context = 0;  // the target's training context
  int target_vocab = 0;
  int target_layers = 0;
  float rms_eps = 1e-5f;
  float rope_base = 10000.0f;
  int tap_layers[3] = {0, 0, 0};  // inputs of these target layers, in the order fc eats them
};

// llama.cpp's eagle3 graph, one decoder layer, interleaved RoPE, no biases:
//   g = fc a;  z = concat(rms(e) * attn_norm, rms(g) * hidden_norm);  h = g + wo attn(wq z, wk z,
//   wv z) o = h + down(silu(gate u) * up u), u = rms(h) * ffn_norm;  logits = output (rms(o) *
//   output_norm);  next g = o
struct DraftWeights {
  DraftShape shape;
  std::vector<int64_t> d2t;        // [V] absolute target ids, rising
  std::vector<float> fc;           // [D, 3D]
  std::vector<float> attn_norm;    // [D] on the token embedding (blk.0.attn_norm)
  std::vector<float> hidden_norm;  // [D] on g (blk.0.attn_norm_2)
  std::vector<float> wq;           // [H, 2D]
  std::vector<float> wk;           // [kv_heads * head_dim, 2D]
  std::vector<float> wv;           // [kv_heads * head_dim, 2D]
  std::vector<float> wo;           // [D, H]
  std::vector<float> ffn_norm;     // [D]
  std::vector<float> gate;         // [ff, D]
  std::vector<float> up;           // [ff, D]
  std::vector<float> down;         // [D, ff]
  std::vector<float> output_norm;  // [D]
  std::vector<float> output;       // [V, D]

  size_t weight_count() const {
    return fc.size() + attn_norm.size() + hidden_norm.size() + wq.size() + wk.size() + wv.size() +
           wo.size() + ffn_norm.size() + gate.size() + up.size() + down.size() +
           output_norm.size() + output.size();
  }
};

}  // namespace aurora
