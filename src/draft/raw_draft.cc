#include "draft/raw_draft.h"

#include <gguf.h>
#include <sys/stat.h>

#include <cstring>
#include <numeric>

#include "base/check.h"
#include "draft/draft_tensors.h"

namespace aurora {
namespace {

// llama.cpp ignores it; a draft read back knows how deep its target is, which its taps alone do not
// say.
constexpr const char* kTargetBlockCount = "aurora.target_block_count";

struct FreeGgml {
  void operator()(ggml_context* context) const { ggml_free(context); }
};

void set_keys(gguf_context* out, const RawDraft& draft) {
  const DraftShape& s = draft.shape;
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
  if (draft.norm_before_residual) gguf_set_val_bool(out, "eagle3.norm_before_residual", true);
  if (draft.norm_before_fc) gguf_set_val_bool(out, "eagle3.norm_before_fc", true);
  if (draft.rope_scaling == "none") return;
  gguf_set_val_str(out, "eagle3.rope.scaling.type", draft.rope_scaling.c_str());
  gguf_set_val_f32(out, "eagle3.rope.scaling.factor", draft.rope_factor);
}

// Keeps the target's tokenizer keys: everything is copied, then what is not tokenizer.* removed.
void copy_tokenizer(gguf_context* out, const gguf_context* target) {
  gguf_set_kv(out, target);
  for (int64_t i = gguf_get_n_kv(out) - 1; i >= 0; --i) {
    const std::string key = gguf_get_key(out, i);
    if (!key.starts_with("tokenizer.")) gguf_remove_key(out, key.c_str());
  }
}

void add_tensor(gguf_context* out, ggml_tensor* tensor, const char* name, const void* data) {
  ggml_set_name(tensor, name);
  gguf_add_tensor(out, tensor);
  gguf_set_tensor_data(out, name, data);
}

void add_tensors(gguf_context* out, ggml_context* context, const RawDraft& draft) {
  const auto vocab = static_cast<int64_t>(draft.d2t.size());
  for (const DraftTensor& spec : draft_tensors(draft.shape, vocab)) {
    const auto found = draft.tensors.find(spec.name);
    if (found == draft.tensors.end()) {
      CHECK(spec.optional);
      continue;
    }
    const RawTensor& raw = found->second;
    CHECK(raw.bytes.size() == ggml_row_size(raw.type, spec.cols) * static_cast<size_t>(spec.rows));
    ggml_tensor* tensor = spec.matrix ? ggml_new_tensor_2d(context, raw.type, spec.cols, spec.rows)
                                      : ggml_new_tensor_1d(context, raw.type, spec.cols);
    add_tensor(out, tensor, spec.name, raw.bytes.data());
  }
  add_tensor(out, ggml_new_tensor_1d(context, GGML_TYPE_I64, vocab), "d2t", draft.d2t.data());
}

Result<DraftShape> read_shape(const GgufFile& file) {
  auto architecture = file.text("general.architecture");
  if (!architecture) return architecture.status();
  if (*architecture != "eagle3") {
    return Status::invalid(file.path() + " is not a draft: its architecture is " + *architecture);
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

Status read_d2t(const GgufFile& file, RawDraft& draft) {
  if (!file.has_tensor("d2t")) {  // the draft's vocabulary is the target's
    const auto head = file.tensor("output.weight", draft.shape.target_vocab, draft.shape.hidden);
    if (!head) return head.status();
    draft.d2t.resize(static_cast<size_t>(draft.shape.target_vocab));
    std::iota(draft.d2t.begin(), draft.d2t.end(), 0);
    return Status::ok();
  }
  const auto tensor = file.tensor("d2t");
  if (tensor->type != GGML_TYPE_I64 || tensor->rows != 1) {
    return Status::corrupt(file.path() + ": d2t is not a vector of 64-bit ids");
  }
  draft.d2t.resize(static_cast<size_t>(tensor->cols));
  std::memcpy(draft.d2t.data(), tensor->data, draft.d2t.size() * sizeof(int64_t));
  return Status::ok();
}

void read_variant(const GgufFile& file, RawDraft& draft) {
  draft.norm_before_residual = file.flag("eagle3.norm_before_residual");
  draft.norm_before_fc = file.flag("eagle3.norm_before_fc");
  if (const auto scaling = file.text("eagle3.rope.scaling.type")) draft.rope_scaling = *scaling;
  if (const auto factor = file.number("eagle3.rope.scaling.factor"))
    draft.rope_factor = static_cast<float>(*factor);
}

}  // namespace

Result<RawDraft> read_raw_draft(const std::string& path) {
  auto file = GgufFile::open_mapped(path);
  if (!file) return file.status();
  const auto parts = (*file)->integer("split.count");
  if (parts && *parts > 1)
    return Status::invalid(path + " is one part of a split draft: merge the parts first");
  auto shape = read_shape(**file);
  if (!shape) return shape.status();
  RawDraft draft;
  draft.shape = *shape;
  read_variant(**file, draft);
  if (Status status = read_d2t(**file, draft); !status) return status;
  for (const DraftTensor& spec :
       draft_tensors(draft.shape, static_cast<int64_t>(draft.d2t.size()))) {
    if (spec.optional && !(*file)->has_tensor(spec.name)) continue;
    const auto tensor = (*file)->tensor(spec.name, spec.rows, spec.cols);
    if (!tensor) return tensor.status();
    if (!can_dequantise(tensor->type)) {
      return Status::invalid(path + ": " + spec.name + " is of an unknown type");
    }
    const size_t bytes = ggml_row_size(tensor->type, spec.cols) * static_cast<size_t>(spec.rows);
    draft.tensors[spec.name] = {tensor->type, {tensor->data, tensor->data + bytes}};
  }
  return draft;
}

Status write_raw_draft(const std::string& path, const RawDraft& draft, const GgufFile& tokenizer) {
  const GgufPtr out(gguf_init_empty());
  copy_tokenizer(out.get(), tokenizer.meta());
  set_keys(out.get(), draft);
  constexpr size_t kTensorsMax = 32;
  const std::unique_ptr<ggml_context, FreeGgml> context(ggml_init(
      {.mem_size = kTensorsMax * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  CHECK(context != nullptr);
  add_tensors(out.get(), context.get(), draft);

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

RawTensor convert(const RawTensor& tensor, int64_t rows, int64_t cols, ggml_type type) {
  if (tensor.type == type) return tensor;
  std::vector<float> values(static_cast<size_t>(rows * cols));
  const size_t row_bytes = ggml_row_size(tensor.type, cols);
  for (int64_t row = 0; row < rows; ++row) {
    dequantise_row(tensor.type, tensor.bytes.data() + static_cast<size_t>(row) * row_bytes, cols,
                   values.data() + row * cols);
  }
  RawTensor out;
  out.type = type;
  out.bytes.resize(ggml_row_size(type, cols) * static_cast<size_t>(rows));
  ggml_quantize_chunk(type, values.data(), out.bytes.data(), 0, rows, cols, nullptr);
  return out;
}

ggml_type fitting_type(ggml_type wanted, int64_t cols) {
  return cols % ggml_blck_size(wanted) == 0 ? wanted : GGML_TYPE_F16;
}

}  // namespace aurora
