#include "draft/draft_file_maker.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace aurora {
namespace {

struct Tensor {
  std::string name;
  int64_t cols;
  int64_t rows;
};

std::vector<Tensor> tensors(const TinyDraft& d) {
  const int64_t q = d.heads * d.head_dim;
  const int64_t kv = d.kv_heads * d.head_dim;
  return {{"fc.weight", 3 * d.hidden, d.hidden},
          {"blk.0.attn_norm.weight", d.hidden, 1},
          {"blk.0.attn_norm_2.weight", d.hidden, 1},
          {"blk.0.attn_q.weight", 2 * d.hidden, q},
          {"blk.0.attn_k.weight", 2 * d.hidden, kv},
          {"blk.0.attn_v.weight", 2 * d.hidden, kv},
          {"blk.0.attn_output.weight", q, d.hidden},
          {"blk.0.ffn_norm.weight", d.hidden, 1},
          {"blk.0.ffn_gate.weight", d.hidden, d.ff},
          {"blk.0.ffn_up.weight", d.hidden, d.ff},
          {"blk.0.ffn_down.weight", d.ff, d.hidden},
          {"output_norm.weight", d.hidden, 1},
          {"output.weight", d.hidden, static_cast<int64_t>(d.d2t.size())}};
}

void set_keys(gguf_context* gguf, const TinyDraft& d) {
  const std::string prefix = d.architecture + ".";
  const auto count = [&](const char* key, int value) {
    gguf_set_val_u32(gguf, (prefix + key).c_str(), static_cast<uint32_t>(value));
  };
  gguf_set_val_str(gguf, "general.architecture", d.architecture.c_str());
  count("embedding_length", d.hidden);
  count("block_count", 1);
  count("context_length", 2048);
  count("feed_forward_length", d.ff);
  count("attention.head_count", d.heads);
  count("attention.head_count_kv", d.kv_heads);
  count("attention.key_length", d.head_dim);
  count("attention.value_length", d.head_dim);
  count("rope.dimension_count", d.head_dim);
  count("target_hidden_size", d.hidden);
  gguf_set_val_f32(gguf, (prefix + "attention.layer_norm_rms_epsilon").c_str(), 1e-5f);
  gguf_set_val_f32(gguf, (prefix + "rope.freq_base").c_str(), 10000.0f);
  gguf_set_arr_data(gguf, (prefix + "target_layers").c_str(), GGUF_TYPE_INT32, d.tap_layers, 3);
  gguf_set_val_str(gguf, "tokenizer.ggml.model", "gpt2");
  std::vector<std::string> names;
  for (int i = 0; i < d.target_vocab; ++i) names.push_back("token" + std::to_string(i));
  std::vector<const char*> tokens;
  for (const std::string& name : names) tokens.push_back(name.c_str());
  gguf_set_arr_str(gguf, "tokenizer.ggml.tokens", tokens.data(), tokens.size());
  const std::vector<int32_t> token_types(names.size(), 1);
  gguf_set_arr_data(gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, token_types.data(),
                    token_types.size());
  d.edit_keys(gguf);
}

ggml_type type_of(const TinyDraft& d, const Tensor& tensor) {
  const auto found = d.types.find(tensor.name);
  if (found != d.types.end()) return found->second;
  return tensor.rows == 1 ? GGML_TYPE_F32 : d.type;
}

void add_tensor(gguf_context* gguf, ggml_context* context, const TinyDraft& d, Tensor tensor) {
  const ggml_type type = type_of(d, tensor);
  if (d.cols.contains(tensor.name)) tensor.cols = d.cols.at(tensor.name);
  std::vector<float> values(static_cast<size_t>(tensor.cols * tensor.rows));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) / 16.0f - 0.5f;
  d.edit_values(tensor.name, values);
  ggml_tensor* made = ggml_new_tensor_2d(context, type, tensor.cols, tensor.rows);
  ggml_set_name(made, tensor.name.c_str());
  if (ggml_get_type_traits(type)->to_float != nullptr || type == GGML_TYPE_F32) {
    ggml_quantize_chunk(type, values.data(), made->data, 0, tensor.rows, tensor.cols, nullptr);
  }
  gguf_add_tensor(gguf, made);
}

}  // namespace

void write_tiny_draft(const std::string& path, const TinyDraft& draft) {
  gguf_context* gguf = gguf_init_empty();
  ggml_context* context =
      ggml_init({.mem_size = 4 << 20, .mem_buffer = nullptr, .no_alloc = false});
  set_keys(gguf, draft);
  const auto wanted = [&](const std::string& name) {
    return std::find(draft.left_out.begin(), draft.left_out.end(), name) == draft.left_out.end();
  };
  for (const Tensor& tensor : tensors(draft)) {
    if (wanted(tensor.name)) add_tensor(gguf, context, draft, tensor);
  }
  if (wanted("d2t")) {
    const bool typed = draft.types.contains("d2t");
    ggml_tensor* d2t = ggml_new_tensor_1d(context, typed ? draft.types.at("d2t") : GGML_TYPE_I64,
                                          static_cast<int64_t>(draft.d2t.size()));
    ggml_set_name(d2t, "d2t");
    if (!typed) std::copy(draft.d2t.begin(), draft.d2t.end(), static_cast<int64_t*>(d2t->data));
    gguf_add_tensor(gguf, d2t);
  }
  EXPECT_TRUE(gguf_write_to_file(gguf, path.c_str(), false));
  ggml_free(context);
  gguf_free(gguf);
}

}  // namespace aurora
