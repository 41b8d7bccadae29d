#include "train/draft_file.h"

#include <ggml.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "train/gguf_file.h"

namespace aurora {
namespace {

// llama.cpp ignores it; a draft read back knows how deep its target is, which its taps alone do not
// say.
constexpr const char* kTargetBlockCount = "aurora.target_block_count";

struct FreeGgml {
  void operator()(ggml_context* context) const { ggml_free(context); }
};

struct TensorSpec {
  const char* name;
  std::vector<float> DraftWeights::*field;
  int64_t rows;
  int64_t cols;
  bool matrix;  // norms stay F32
};

// Every fp32 tensor of the file: the one list that writing and reading follow.
std::vector<TensorSpec> tensor_specs(const DraftShape& s, int64_t vocab) {
  const int64_t hidden = s.hidden;
  const int64_t q_rows = static_cast<int64_t>(s.heads) * s.head_dim;
  const int64_t kv_rows = static_cast<int64_t>(s.kv_heads) * s.head_dim;
  using W = DraftWeights;
  return {
      {"fc.weight", &W::fc, hidden, 3 * hidden, true},
      {"blk.0.attn_norm.weight", &W::attn_norm, 1, hidden, false},
      {"blk.0.attn_norm_2.weight", &W::hidden_norm, 1, hidden, false},
      {"blk.0.attn_q.weight", &W::wq, q_rows, 2 * hidden, true},
      {"blk.0.attn_k.weight", &W::wk, kv_rows, 2 * hidden, true},
      {"blk.0.attn_v.weight", &W::wv, kv_rows, 2 * hidden, true},
      {"blk.0.attn_output.weight", &W::wo, hidden, q_rows, true},
      {"blk.0.ffn_norm.weight", &W::ffn_norm, 1, hidden, false},
      {"blk.0.ffn_gate.weight", &W::gate, s.ff, hidden, true},
      {"blk.0.ffn_up.weight", &W::up, s.ff, hidden, true},
      {"blk.0.ffn_down.weight", &W::down, hidden, s.ff, true},
      {"output_norm.weight", &W::output_norm, 1, hidden, false},
      {"output.weight", &W::output, vocab, hidden, true},
  };
}

bool all_finite(const std::vector<float>& values) {
  for (const float value : values) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

Status check_weights(const DraftWeights& weights, const std::string& path) {
  const auto vocab = static_cast<int64_t>(weights.d2t.size());
  for (const TensorSpec& spec : tensor_specs(weights.shape, vocab)) {
    const std::vector<float>& values = weights.*spec.field;
    if (values.size() != static_cast<size_t>(spec.rows * spec.cols)) {
      return Status::invalid(path + ": " + spec.name + " is not of the draft's shape");
    }
    if (!all_finite(values)) {
      return Status::corrupt(path + ": " + spec.name + " holds a number that is not finite");
    }
  }
  int64_t previous = -1;
  for (const int64_t id : weights.d2t) {
    if (id <= previous || id >= weights.shape.target_vocab) {
      return Status::corrupt(path + ": d2t is not rising, or leaves the target's vocabulary");
    }
    previous = id;
  }
  return vocab > 0 ? Status::ok() : Status::invalid(path + ": the draft vocabulary is empty");
}

void set_keys(gguf_context* out, const DraftShape& s) {
  const auto count = [&](const char* key, int value) {
    gguf_set_val_u32(out, key, static_cast<uint32_t>(value));
  };
  gguf_set_val_str(out, "general.architecture", "eagle3");
  gguf_set_val_str(out, "general.name", "Aurora draft");
  count("general.quantization_version", GGML_QNT_VERSION);
  count("eagle3.vocab_size", s.target_vocab);
  count("eagle3.context_length", s.context);
  count("eagle3.embedding_length", s.hidden);
  count("eagle3.block_count", 1);
  count("eagle3.feed_forward_length", s.ff);
  count("eagle3.attention.head_count", s.heads);
  count("eagle3.attention.head_count_kv", s.kv_heads);
  count("eagle3.attention.key_length", s.head_dim);
  count("eagle3.attention.value_length", s.head_dim);
  gguf_set_val_f32(out, "eagle3.attention.layer_norm_rms_epsilon", s.rms_eps);
  gguf_set_val_f32(out, "eagle3.rope.freq_base", s.rope_base);
  count("eagle3.rope.dimension_count", s.head_dim);
  count("eagle3.target_hidden_size", s.hidden);
  const int32_t taps[3] = {s.tap_layers[0], s.tap_layers[1], s.tap_layers[2]};
  gguf_set_arr_data(out, "eagle3.target_layers", GGUF_TYPE_INT32, taps, 3);
  count(kTargetBlockCount, s.target_layers);
}

// Keeps the target's tokenizer keys: everything is copied, then what is not tokenizer.* removed.
void copy_tokenizer(gguf_context* out, const gguf_context* target) {
  gguf_set_kv(out, target);
  for (int64_t i = gguf_get_n_kv(out) - 1; i >= 0; --i) {
    const std::string key = gguf_get_key(out, i);
    if (!key.starts_with("tokenizer.")) gguf_remove_key(out, key.c_str());
  }
}

ggml_type file_type(const TensorSpec& spec, DraftDtype dtype) {
  if (!spec.matrix || dtype == DraftDtype::kF32) return GGML_TYPE_F32;
  // Rows that are no whole number of Q8_0 blocks stay F16.
  if (dtype == DraftDtype::kQ8_0 && spec.cols % ggml_blck_size(GGML_TYPE_Q8_0) == 0) {
    return GGML_TYPE_Q8_0;
  }
  return GGML_TYPE_F16;
}

// Bytes of the tensors as the file holds them; must outlive the gguf_context that points at them.
using TensorBytes = std::vector<std::vector<std::byte>>;

void add_tensor(gguf_context* out, ggml_tensor* tensor, const char* name, const void* data) {
  ggml_set_name(tensor, name);
  gguf_add_tensor(out, tensor);
  gguf_set_tensor_data(out, name, data);
}

void add_tensors(gguf_context* out, ggml_context* context, const DraftWeights& weights,
                 DraftDtype dtype, TensorBytes& bytes) {
  const auto vocab = static_cast<int64_t>(weights.d2t.size());
  for (const TensorSpec& spec : tensor_specs(weights.shape, vocab)) {
    const ggml_type type = file_type(spec, dtype);
    std::vector<std::byte>& data =
        bytes.emplace_back(ggml_row_size(type, spec.cols) * static_cast<size_t>(spec.rows));
    ggml_quantize_chunk(type, (weights.*spec.field).data(), data.data(), 0, spec.rows, spec.cols,
                        nullptr);
    ggml_tensor* tensor = spec.matrix ? ggml_new_tensor_2d(context, type, spec.cols, spec.rows)
                                      : ggml_new_tensor_1d(context, type, spec.cols);
    add_tensor(out, tensor, spec.name, data.data());
  }
  add_tensor(out, ggml_new_tensor_1d(context, GGML_TYPE_I64, vocab), "d2t", weights.d2t.data());
}

Result<DraftShape> read_shape(const GgufFile& file) {
  auto architecture = file.text("general.architecture");
  if (!architecture) return architecture.status();
  if (*architecture != "eagle3") {
    return Status::invalid(file.path() + " is not a draft: its architecture is " + *architecture);
  }
  if (file.flag("eagle3.norm_before_fc") || file.flag("eagle3.norm_before_residual") ||
      file.has_tensor("token_embd.weight") || file.has_tensor("blk.0.rope_freqs.weight")) {
    return Status::invalid(file.path() + " is an EAGLE-3 variant that cannot be trained on here");
  }
  Status failure;
  const auto integer = [&](const std::string& key, size_t index, int64_t otherwise) -> int {
    if (otherwise > 0 && !file.has(key)) return static_cast<int>(otherwise);
    auto value = file.integer(key, index);
    if (value && (*value < 0 || *value > (1 << 30))) {
      value = Status::corrupt(file.path() + ": impossible " + key);
    }
    if (!value && failure) failure = value.status();
    return value ? static_cast<int>(*value) : 1;
  };
  const std::string prefix = "eagle3.";
  DraftShape s;
  s.hidden = integer(prefix + "embedding_length", 0, 0);
  s.heads = integer(prefix + "attention.head_count", 0, 0);
  if (s.hidden < 1 || s.heads < 1) return Status::corrupt(file.path() + ": an empty shape");
  s.kv_heads = integer(prefix + "attention.head_count_kv", 0, s.heads);
  if (s.kv_heads < 1 || s.heads % s.kv_heads != 0)
    return Status::corrupt(file.path() + ": its heads do not share keys evenly");
  s.head_dim = integer(prefix + "attention.key_length", 0, s.hidden / s.heads);
  s.ff = integer(prefix + "feed_forward_length", 0, 0);
  s.context = integer(prefix + "context_length", 0, 0);
  const size_t tokens = file.array_size("tokenizer.ggml.tokens");
  s.target_vocab = integer(prefix + "vocab_size", 0, static_cast<int64_t>(tokens));
  for (size_t i = 0; i < 3; ++i) s.tap_layers[i] = integer(prefix + "target_layers", i, 0);
  s.target_layers = integer(kTargetBlockCount, 0, s.tap_layers[2] + 1);
  if (!failure) return failure;
  if (integer(prefix + "target_hidden_size", 0, s.hidden) != s.hidden) {
    return Status::invalid(file.path() + ": draft and target differ in hidden size");
  }
  const auto eps = file.number(prefix + "attention.layer_norm_rms_epsilon");
  if (!eps) return eps.status();
  s.rms_eps = static_cast<float>(*eps);
  if (auto base = file.number(prefix + "rope.freq_base")) s.rope_base = static_cast<float>(*base);
  return s;
}

Status read_d2t(const GgufFile& file, DraftWeights& weights) {
  if (!file.has_tensor("d2t")) {  // the draft's vocabulary is the target's
    const auto head =
        file.tensor("output.weight", weights.shape.target_vocab, weights.shape.hidden);
    if (!head) return head.status();
    weights.d2t.resize(static_cast<size_t>(weights.shape.target_vocab));
    std::iota(weights.d2t.begin(), weights.d2t.end(), 0);
    return Status::ok();
  }
  const auto tensor = file.tensor("d2t");
  if (tensor->type != GGML_TYPE_I64 || tensor->rows != 1) {
    return Status::corrupt(file.path() + ": d2t is not a vector of 64-bit ids");
  }
  weights.d2t.resize(static_cast<size_t>(tensor->cols));
  std::memcpy(weights.d2t.data(), tensor->data, weights.d2t.size() * sizeof(int64_t));
  return Status::ok();
}

}  // namespace

Status write_draft_file(const std::string& path, const DraftWeights& weights,
                        const std::string& target_path, DraftDtype dtype) {
  if (Status status = check_weights(weights, path); !status) return status;
  auto target = GgufFile::open(target_path);
  if (!target) return target.status();
  const GgufPtr out(gguf_init_empty());
  copy_tokenizer(out.get(), (*target)->meta());
  set_keys(out.get(), weights.shape);

  constexpr size_t kTensorsMax = 32;
  const std::unique_ptr<ggml_context, FreeGgml> context(ggml_init(
      {.mem_size = kTensorsMax * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  CHECK(context != nullptr);
  TensorBytes bytes;
  add_tensors(out.get(), context.get(), weights, dtype, bytes);

  const bool written = gguf_write_to_file(out.get(), path.c_str(), /*only_meta=*/false);
  // A full disk may show only when the last buffer is flushed, which the writer does not report.
  size_t expected = gguf_get_meta_size(out.get());
  for (int64_t i = 0; i < gguf_get_n_tensors(out.get()); ++i) {
    expected += GGML_PAD(gguf_get_tensor_size(out.get(), i), gguf_get_alignment(out.get()));
  }
  struct stat info = {};
  if (!written || stat(path.c_str(), &info) != 0 || static_cast<size_t>(info.st_size) != expected) {
    return Status::io("cannot write the draft " + path);
  }
  return Status::ok();
}

Result<DraftWeights> read_draft_file(const std::string& path) {
  auto file = GgufFile::open(path);
  if (!file) return file.status();
  auto shape = read_shape(**file);
  if (!shape) return shape.status();
  DraftWeights weights;
  weights.shape = *shape;
  if (Status status = read_d2t(**file, weights); !status) return status;
  const auto vocab = static_cast<int64_t>(weights.d2t.size());
  for (const TensorSpec& spec : tensor_specs(weights.shape, vocab)) {
    auto tensor = (*file)->tensor(spec.name, spec.rows, spec.cols);
    if (!tensor) return tensor.status();
    if (!can_dequantise(*tensor)) {
      return Status::invalid(path + ": " + spec.name + " is of an unknown type");
    }
    weights.*spec.field = dequantise(*tensor);
  }
  if (Status status = check_weights(weights, path); !status) return status;
  return weights;
}

}  // namespace aurora
