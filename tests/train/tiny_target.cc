#include "train/tiny_target.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <cmath>
#include <iterator>
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

// What a layer of an architecture has beside or in place of a llama's.
struct Kind {
  const char* name;
  bool mean_norms = false;  // LayerNorm, with biases
  bool pre_norms = true;    // before attention and MLP
  bool mlp_norm = true;     // false: the MLP reads what attention reads
  const char* norm_before_mlp = "ffn_norm";
  bool outcome_norms = false;  // of what attention and MLP write
  int qk_norms = 0;            // 1: of each head; 2: of all heads at once
  bool fused_qkv = false;
  bool qkv_biases = false;
  bool biases = false;  // of attention's output and the MLP
  enum { kGated, kFused, kUngated } mlp = kGated;
  bool experts = false;  // always
  bool shared_expert = false;
  bool compressed = false;  // keys and values (MLA)
  bool untied = false;
};

constexpr Kind kKinds[] = {
    {.name = "llama"},
    {.name = "mistral3"},
    {.name = "granite"},
    {.name = "qwen2", .qkv_biases = true},
    {.name = "qwen3", .qk_norms = 1},
    {.name = "qwen2moe",
     .qkv_biases = true,
     .experts = true,
     .shared_expert = true,
     .untied = true},
    {.name = "qwen3moe", .qk_norms = 1, .experts = true},
    {.name = "gpt-oss",
     .norm_before_mlp = "post_attention_norm",
     .qkv_biases = true,
     .biases = true,
     .experts = true,
     .untied = true},
    {.name = "deepseek2", .experts = true, .shared_expert = true, .compressed = true},
    {.name = "gemma"},
    {.name = "gemma2", .outcome_norms = true},
    {.name = "gemma3", .outcome_norms = true, .qk_norms = 1},
    {.name = "glm4", .outcome_norms = true, .mlp = Kind::kFused},
    {.name = "olmo2", .pre_norms = false, .outcome_norms = true, .qk_norms = 2, .untied = true},
    {.name = "phi3", .fused_qkv = true, .mlp = Kind::kFused},
    {.name = "stablelm", .mean_norms = true, .untied = true},
    {.name = "starcoder2",
     .mean_norms = true,
     .qkv_biases = true,
     .biases = true,
     .mlp = Kind::kUngated},
    {.name = "gpt2",
     .mean_norms = true,
     .fused_qkv = true,
     .qkv_biases = true,
     .biases = true,
     .mlp = Kind::kUngated},
    {.name = "falcon",
     .mean_norms = true,
     .mlp_norm = false,
     .fused_qkv = true,
     .mlp = Kind::kUngated},
};

const Kind& kind_of(const std::string& architecture) {
  const auto found = std::find_if(std::begin(kKinds), std::end(kKinds),
                                  [&](const Kind& kind) { return architecture == kind.name; });
  CHECK(found != std::end(kKinds));
  return *found;
}

constexpr int kExpertsUsed = 2;
// Of compressed keys and values: ranks, and the sizes of a head's parts.
constexpr int kQueryRank = 24, kValueRank = 16, kRopeDim = 8, kPlainDim = 8, kValueDim = 16;

void set_keys(gguf_context* out, const TinyTarget& t) {
  const Kind& kind = kind_of(t.architecture);
  const std::string prefix = t.architecture + ".";
  const auto count = [&](const char* key, int value) {
    gguf_set_val_u32(out, (prefix + key).c_str(), static_cast<uint32_t>(value));
  };
  const auto number = [&](const char* key, float value) {
    gguf_set_val_f32(out, (prefix + key).c_str(), value);
  };
  gguf_set_val_str(out, "general.architecture", t.architecture.c_str());
  gguf_set_val_str(out, "general.name", "tiny");
  count("context_length", t.context);
  count("embedding_length", t.hidden);
  count("block_count", t.layers);
  count("feed_forward_length", t.ff);
  count("attention.head_count", t.heads);
  const int kv_heads = t.architecture == "gpt2" ? t.heads : t.kv_heads;
  count("attention.head_count_kv", kind.compressed ? 1 : kv_heads);
  const int rotated = t.rotated > 0 ? t.rotated : t.hidden / t.heads;
  count("rope.dimension_count", kind.compressed ? kRopeDim : rotated);
  number(kind.mean_norms ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
         1e-5f);
  number("rope.freq_base", 5000.0f);
  if (t.architecture == "gemma2" || t.architecture == "gemma3" || t.architecture == "gpt-oss")
    count("attention.sliding_window", t.window);
  if (t.architecture == "gemma2") {
    number("attn_logit_softcapping", 50.0f);
    number("final_logit_softcapping", 30.0f);
  }
  if (t.architecture == "granite") {
    number("logit_scale", 4.0f);
    number("residual_scale", 0.5f);
    number("embedding_scale", 3.0f);
    number("attention.scale", 0.125f);
  }
  if (t.experts > 0 || kind.experts) {
    count("expert_count", std::max(t.experts, kExpertsUsed));
    count("expert_used_count", kExpertsUsed);
    count("expert_feed_forward_length", t.ff);
    count("expert_shared_feed_forward_length", t.ff);
    count("expert_shared_count", 1);
  }
  if (kind.compressed) {
    count("leading_dense_block_count", 1);
    count("attention.q_lora_rank", kQueryRank);
    count("attention.kv_lora_rank", kValueRank);
    count("attention.key_length", kValueRank + kRopeDim);
    count("attention.value_length", kValueRank);
    count("attention.key_length_mla", kPlainDim + kRopeDim);
    count("attention.value_length_mla", kValueDim);
  }
  if (t.drafting_layers > 0) count("nextn_predict_layers", t.drafting_layers);
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
    if (target_.alike && name.ends_with("ffn_gate_inp.weight")) values.assign(count, 0.0f);
    const size_t one = count / static_cast<size_t>(depth);
    for (size_t i = one; target_.copies && i < count; ++i) values[i] = values[i - one];
    if (target_.half) {
      std::vector<float> halves((count + 1) / 2);
      ggml_fp32_to_fp16_row(values.data(), reinterpret_cast<ggml_fp16_t*>(halves.data()),
                            static_cast<int64_t>(count));
      values = std::move(halves);
    }
    add(name, ggml_new_tensor_3d(context_, type, cols, rows, depth), std::move(values));
  }
  void vector(const std::string& name, int count) {
    add(name, ggml_new_tensor_1d(context_, GGML_TYPE_F32, count),
        tiny_values(name, static_cast<size_t>(count), target_.seed));
  }
  void norm(const std::string& name) {
    vector(name + ".weight", target_.hidden);
    if (kind_of(target_.architecture).mean_norms) zeros(name + ".bias", target_.hidden);
  }
  void zeros(const std::string& name, int count, int depth = 1) {
    add(name, ggml_new_tensor_2d(context_, GGML_TYPE_F32, count, depth),
        std::vector<float>(static_cast<size_t>(count) * static_cast<size_t>(depth), 0.0f));
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

void add_compressed_attention(Writer& writer, const TinyTarget& t, const std::string& block) {
  writer.matrix(block + "attn_q_a.weight", kQueryRank, t.hidden);
  writer.vector(block + "attn_q_a_norm.weight", kQueryRank);
  writer.matrix(block + "attn_q_b.weight", t.heads * (kPlainDim + kRopeDim), kQueryRank);
  writer.matrix(block + "attn_kv_a_mqa.weight", kValueRank + kRopeDim, t.hidden);
  writer.vector(block + "attn_kv_a_norm.weight", kValueRank);
  writer.matrix(block + "attn_k_b.weight", kValueRank, kPlainDim, t.heads);
  writer.matrix(block + "attn_v_b.weight", kValueDim, kValueRank, t.heads);
  writer.matrix(block + "attn_output.weight", t.hidden, t.heads * kValueDim);
}

void add_attention(Writer& writer, const TinyTarget& t, const std::string& block) {
  const Kind& kind = kind_of(t.architecture);
  if (kind.compressed) return add_compressed_attention(writer, t, block);
  const int head_dim = t.hidden / t.heads;
  const int kv_rows = head_dim * (t.architecture == "gpt2" ? t.heads : t.kv_heads);
  if (kind.fused_qkv) {
    writer.matrix(block + "attn_qkv.weight", t.hidden + 2 * kv_rows, t.hidden);
    if (kind.qkv_biases) writer.zeros(block + "attn_qkv.bias", t.hidden + 2 * kv_rows);
  } else {
    for (const char* part : {"attn_q", "attn_k", "attn_v"}) {
      const int rows = part[5] == 'q' ? t.hidden : kv_rows;
      writer.matrix(block + part + ".weight", rows, t.hidden);
      if (kind.qkv_biases) writer.zeros(block + part + ".bias", rows);
    }
  }
  if (kind.qk_norms > 0) {
    writer.vector(block + "attn_q_norm.weight", kind.qk_norms == 1 ? head_dim : t.hidden);
    writer.vector(block + "attn_k_norm.weight", kind.qk_norms == 1 ? head_dim : kv_rows);
  }
  writer.matrix(block + "attn_output.weight", t.hidden, t.hidden);
  if (kind.biases) writer.zeros(block + "attn_output.bias", t.hidden);
  if (t.architecture == "gpt-oss") writer.vector(block + "attn_sinks.weight", t.heads);
}

void add_mlp(Writer& writer, const TinyTarget& t, const std::string& block, bool experts) {
  const Kind& kind = kind_of(t.architecture);
  const std::string ending = experts ? "_exps" : "";
  const int depth = experts ? std::max(t.experts, kExpertsUsed) : 1;
  if (experts) writer.matrix(block + "ffn_gate_inp.weight", depth, t.hidden);
  if (experts && kind.biases) writer.zeros(block + "ffn_gate_inp.bias", depth);
  for (const char* part : {"ffn_gate", "ffn_up", "ffn_down"}) {
    const bool gate = part[4] == 'g', down = part[4] == 'd';
    if (gate && kind.mlp != Kind::kGated) continue;
    const std::string name = block + part + ending;
    const int ups = kind.mlp == Kind::kFused ? 2 * t.ff : t.ff;
    writer.matrix(name + ".weight", down ? t.hidden : ups, down ? t.ff : t.hidden, depth);
    if (kind.biases) writer.zeros(name + ".bias", down ? t.hidden : t.ff, depth);
  }
  if (!experts || !kind.shared_expert) return;
  if (t.architecture == "qwen2moe") writer.vector(block + "ffn_gate_inp_shexp.weight", t.hidden);
  writer.matrix(block + "ffn_gate_shexp.weight", t.ff, t.hidden);
  writer.matrix(block + "ffn_up_shexp.weight", t.ff, t.hidden);
  writer.matrix(block + "ffn_down_shexp.weight", t.hidden, t.ff);
}

void add_layer(Writer& writer, const TinyTarget& t, int layer) {
  const Kind& kind = kind_of(t.architecture);
  const std::string block = "blk." + std::to_string(layer) + ".";
  if (kind.pre_norms) writer.norm(block + "attn_norm");
  add_attention(writer, t, block);
  if (kind.pre_norms && kind.mlp_norm) writer.norm(block + kind.norm_before_mlp);
  if (kind.outcome_norms) {
    writer.norm(block + "post_attention_norm");
    writer.norm(block + "post_ffw_norm");
  }
  const bool leading = kind.compressed && layer == 0;  // the first layer's MLP is plain
  add_mlp(writer, t, block, (kind.experts || t.experts > 0) && !leading);
}

}  // namespace

std::vector<std::string> tiny_architectures() {
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) names.push_back(kind.name);
  return names;
}

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
  writer.norm("output_norm");
  if (target.architecture == "gpt2")
    writer.matrix("position_embd.weight", target.context, target.hidden);
  if (!target.tied || kind_of(target.architecture).untied)
    writer.matrix("output.weight", kTinyVocab, target.hidden);
  CHECK(gguf_write_to_file(out.get(), path.c_str(), /*only_meta=*/false));
}

}  // namespace aurora
