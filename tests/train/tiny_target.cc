#include "train/tiny_target.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include "base/check.h"
#include "draft/gguf_file.h"

namespace aurora {
namespace {

void append_utf8(std::string& out, int code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else {
    out += static_cast<char>(0xC0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

// Byte tokenizers name a byte by a printable code point: itself if it prints, else 256, 257 ... in
// order.
std::vector<std::string> token_names() {
  std::vector<std::string> names;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 255 && byte != 173);
    append_utf8(names.emplace_back(), prints ? byte : next++);
  }
  names.push_back("<|im_start|>");
  names.push_back("<|im_end|>");
  return names;
}

void set_tokenizer(gguf_context* out) {
  constexpr int32_t kNormal = 1;
  constexpr int32_t kControl = 3;
  const std::vector<std::string> names = token_names();
  std::vector<const char*> texts;
  std::vector<int32_t> types;
  for (const std::string& name : names) {
    texts.push_back(name.c_str());
    types.push_back(types.size() < 256 ? kNormal : kControl);
  }
  const char* merges[] = {"t h"};
  gguf_set_val_str(out, "tokenizer.ggml.model", "gpt2");
  gguf_set_val_str(out, "tokenizer.ggml.pre", "gpt-2");
  gguf_set_arr_str(out, "tokenizer.ggml.tokens", texts.data(), texts.size());
  gguf_set_arr_data(out, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(), types.size());
  gguf_set_arr_str(out, "tokenizer.ggml.merges", merges, 1);
  gguf_set_val_u32(out, "tokenizer.ggml.bos_token_id", 256);
  gguf_set_val_u32(out, "tokenizer.ggml.eos_token_id", 257);
  gguf_set_val_bool(out, "tokenizer.ggml.add_bos_token", false);
  // Bytes that no text holds stand for the marks of a text with a gap.
  gguf_set_val_u32(out, "tokenizer.ggml.fim_pre_token_id", 1);
  gguf_set_val_u32(out, "tokenizer.ggml.fim_suf_token_id", 2);
  gguf_set_val_u32(out, "tokenizer.ggml.fim_mid_token_id", 3);
}

void set_keys(gguf_context* out, const TinyTarget& t) {
  const std::string prefix = t.architecture + ".";
  const auto count = [&](const char* key, int value) {
    gguf_set_val_u32(out, (prefix + key).c_str(), static_cast<uint32_t>(value));
  };
  gguf_set_val_str(out, "general.architecture", t.architecture.c_str());
  gguf_set_val_str(out, "general.name", "tiny");
  count("context_length", t.context);
  count("embedding_length", t.hidden);
  count("block_count", t.layers);
  count("feed_forward_length", t.ff);
  count("attention.head_count", t.heads);
  count("attention.head_count_kv", t.kv_heads);
  count("rope.dimension_count", t.hidden / t.heads);
  gguf_set_val_f32(out, (prefix + "attention.layer_norm_rms_epsilon").c_str(), 1e-5f);
  gguf_set_val_f32(out, (prefix + "rope.freq_base").c_str(), 5000.0f);
  if (t.architecture == "gemma2") {
    count("attention.sliding_window", t.window);
    gguf_set_val_f32(out, (prefix + "attn_logit_softcapping").c_str(), 50.0f);
    gguf_set_val_f32(out, (prefix + "final_logit_softcapping").c_str(), 30.0f);
  }
  if (t.experts > 0) {
    count("expert_count", t.experts);
    count("expert_used_count", 2);
  }
  if (!t.without_key.empty()) gguf_remove_key(out, t.without_key.c_str());
}

class Writer {
 public:
  Writer(gguf_context* out, const TinyTarget& target) : out_(out), target_(target) {
    context_ = ggml_init({.mem_size = 1 << 20, .mem_buffer = nullptr, .no_alloc = true});
  }
  ~Writer() { ggml_free(context_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void matrix(const std::string& name, int rows, int cols, int depth = 1) {
    const size_t count = static_cast<size_t>(rows) * cols * depth;
    const ggml_type type = target_.half ? GGML_TYPE_F16 : GGML_TYPE_F32;
    std::vector<float> values = tiny_values(name, count, target_.seed);
    if (target_.half) {
      std::vector<float> halves((count + 1) / 2);
      ggml_fp32_to_fp16_row(values.data(), reinterpret_cast<ggml_fp16_t*>(halves.data()),
                            static_cast<int64_t>(count));
      values = std::move(halves);
    }
    add(name, ggml_new_tensor_3d(context_, type, cols, rows, depth), std::move(values));
  }
  void norm(const std::string& name) {
    std::vector<float> values =
        tiny_values(name, static_cast<size_t>(target_.hidden), target_.seed);
    add(name, ggml_new_tensor_1d(context_, GGML_TYPE_F32, target_.hidden), std::move(values));
  }
  void zeros(const std::string& name, int count) {
    add(name, ggml_new_tensor_1d(context_, GGML_TYPE_F32, count),
        std::vector<float>(static_cast<size_t>(count), 0.0f));
  }

 private:
  void add(const std::string& name, ggml_tensor* tensor, std::vector<float> values) {
    if (name == target_.without_tensor) return;
    values_.push_back(std::make_unique<std::vector<float>>(std::move(values)));
    ggml_set_name(tensor, name.c_str());
    gguf_add_tensor(out_, tensor);
    gguf_set_tensor_data(out_, name.c_str(), values_.back()->data());
  }

  gguf_context* out_;
  const TinyTarget& target_;
  ggml_context* context_;
  std::vector<std::unique_ptr<std::vector<float>>> values_;  // alive until the file is written
};

void add_layer(Writer& writer, const TinyTarget& t, int layer) {
  const std::string block = "blk." + std::to_string(layer) + ".";
  const int kv_rows = t.hidden / t.heads * t.kv_heads;
  writer.norm(block + "attn_norm.weight");
  writer.matrix(block + "attn_q.weight", t.hidden, t.hidden);
  writer.matrix(block + "attn_k.weight", kv_rows, t.hidden);
  writer.matrix(block + "attn_v.weight", kv_rows, t.hidden);
  if (t.architecture == "qwen2") {
    writer.zeros(block + "attn_q.bias", t.hidden);
    writer.zeros(block + "attn_k.bias", kv_rows);
    writer.zeros(block + "attn_v.bias", kv_rows);
  }
  writer.matrix(block + "attn_output.weight", t.hidden, t.hidden);
  writer.norm(block + "ffn_norm.weight");
  if (t.architecture == "gemma2") {
    writer.norm(block + "post_attention_norm.weight");
    writer.norm(block + "post_ffw_norm.weight");
  }
  const std::string kind = t.experts > 0 ? "_exps.weight" : ".weight";
  const int depth = std::max(t.experts, 1);
  if (t.experts > 0) writer.matrix(block + "ffn_gate_inp.weight", t.experts, t.hidden);
  writer.matrix(block + "ffn_gate" + kind, t.ff, t.hidden, depth);
  writer.matrix(block + "ffn_up" + kind, t.ff, t.hidden, depth);
  writer.matrix(block + "ffn_down" + kind, t.hidden, t.ff, depth);
}

}  // namespace

std::vector<float> tiny_values(const std::string& name, size_t count, uint32_t seed) {
  uint32_t hash = 2166136261u ^ seed;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  std::mt19937 rng(hash);
  const bool norm = name.find("norm") != std::string::npos;
  // Large enough that attention is far from uniform: a rope that pairs wrong values must show.
  const float scale = norm ? 0.2f : 0.25f;
  std::vector<float> values(count);
  for (float& value : values) {
    const float unit = static_cast<float>(rng()) / 4294967296.0f * 2.0f - 1.0f;
    value = (norm ? 1.0f : 0.0f) + scale * unit;
  }
  return values;
}

void write_tiny_target(const std::string& path, const TinyTarget& target) {
  const GgufPtr out(gguf_init_empty());
  set_keys(out.get(), target);
  set_tokenizer(out.get());
  Writer writer(out.get(), target);
  writer.matrix("token_embd.weight", kTinyVocab, target.hidden);
  for (int layer = 0; layer < target.layers; ++layer) add_layer(writer, target, layer);
  writer.norm("output_norm.weight");
  if (!target.tied) writer.matrix("output.weight", kTinyVocab, target.hidden);
  CHECK(gguf_write_to_file(out.get(), path.c_str(), /*only_meta=*/false));
}

}  // namespace aurora
