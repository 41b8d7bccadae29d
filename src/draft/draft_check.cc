#include "draft/draft_check.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <exception>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "draft/draft_tensors.h"
#include "draft/gguf_file.h"

namespace aurora {
namespace {

constexpr size_t kPieceBytes = 1 << 20;
constexpr uint32_t kCountMax =
    1 << 24;  // of heads, widths: far above any model, far below overflow

// Every eagle3 key that a draft may carry. llama.cpp knows more (experts, sliding windows, ...),
// and asserts on some of their values.
constexpr std::array<std::string_view, 19> kKeys = {"vocab_size",
                                                    "context_length",
                                                    "embedding_length",
                                                    "block_count",
                                                    "feed_forward_length",
                                                    "attention.head_count",
                                                    "attention.head_count_kv",
                                                    "attention.key_length",
                                                    "attention.value_length",
                                                    "attention.layer_norm_rms_epsilon",
                                                    "rope.freq_base",
                                                    "rope.dimension_count",
                                                    "rope.scaling.type",
                                                    "rope.scaling.factor",
                                                    "rope.scaling.original_context_length",
                                                    "target_hidden_size",
                                                    "target_layers",
                                                    "norm_before_residual",
                                                    "norm_before_fc"};
constexpr std::string_view kPrefix = "eagle3.";

bool finite(std::span<const float> values) {
  uint32_t worst = 0;
  for (const float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    worst = std::max(worst, bits & 0x7f800000u);  // a full exponent: infinity or NaN
  }
  return worst != 0x7f800000u;
}

// Values of eagle3.<name>, of the one type that llama.cpp takes: it refuses the others itself, by
// an exception.
class Keys {
 public:
  explicit Keys(const GgufFile& file) : file_(file) {}
  std::optional<uint32_t> count(std::string_view name) const {
    const int64_t id = file_.find(full(name), GGUF_TYPE_UINT32);
    if (id < 0) return std::nullopt;
    return gguf_get_val_u32(file_.meta(), id);
  }
  std::optional<float> real(std::string_view name) const {
    const int64_t id = file_.find(full(name), GGUF_TYPE_FLOAT32);
    if (id < 0) return std::nullopt;
    return gguf_get_val_f32(file_.meta(), id);
  }
  bool flag(std::string_view name) const { return file_.flag(full(name)); }
  bool has(std::string_view name) const { return file_.has(full(name)); }

 private:
  static std::string full(std::string_view name) { return std::string(kPrefix).append(name); }
  const GgufFile& file_;
};

// One file against one target. Each step relies on those before it.
class Check {
 public:
  Check(const DraftTarget& target, const GgufFile& file)
      : path_(file.path()), target_(target), file_(file), keys_(file) {}

  Result<DraftFileInfo> run() {
    if (Status status = file_.check_bounds(); !status) return status;
    for (const auto step : {&Check::names, &Check::widths, &Check::taps, &Check::numbers,
                            &Check::tokenizer, &Check::tensors, &Check::ids}) {
      if (Status status = (this->*step)(); !status) return status;
    }
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.meta()); ++i) {
      const auto tensor = file_.tensor(gguf_get_tensor_name(file_.meta(), i));
      if (!tensor) return tensor.status();
      if (Status status = weights(*tensor); !status) return status;
    }
    info_.bytes = file_.bytes();
    return info_;
  }

 private:
  Status corrupt(const std::string& what) const { return Status::corrupt(path_ + " " + what); }
  Status invalid(const std::string& what) const { return Status::invalid(path_ + " " + what); }
  Status differs(const std::string& what, int64_t ours, int64_t wanted) const {
    return invalid("has " + what + " " + std::to_string(ours) + ", the target needs " +
                   std::to_string(wanted));
  }

  Status names() {
    const int64_t arch = file_.find("general.architecture", GGUF_TYPE_STRING);
    if (arch < 0) return corrupt("names no architecture");
    const std::string name = gguf_get_val_str(file_.meta(), arch);
    if (name != "eagle3") return invalid("is of architecture " + name + ", not eagle3");
    for (int64_t i = 0; i < gguf_get_n_kv(file_.meta()); ++i) {
      const std::string_view key = gguf_get_key(file_.meta(), i);
      const bool ours = key.starts_with(kPrefix);
      const bool known =
          ours && std::find(kKeys.begin(), kKeys.end(), key.substr(kPrefix.size())) != kKeys.end();
      if ((ours && !known) || key.starts_with("split.")) {
        return invalid("has the key " + std::string(key) + ", which a draft may not have");
      }
    }
    return Status::ok();
  }

  Status widths() {
    const struct {
      const char* name;
      int* out;
    } wanted[] = {{"embedding_length", &info_.shape.hidden},
                  {"feed_forward_length", &info_.shape.ff},
                  {"attention.head_count", &info_.shape.heads}};
    for (const auto& one : wanted) {
      const std::optional<uint32_t> value = keys_.count(one.name);
      if (!value || *value == 0 || *value > kCountMax) {
        return corrupt("has no usable eagle3." + std::string(one.name));
      }
      *one.out = static_cast<int>(*value);
    }
    if (info_.shape.hidden != target_.hidden)
      return differs("width", info_.shape.hidden, target_.hidden);
    const uint32_t taken = keys_.count("target_hidden_size").value_or(0);
    if (taken != static_cast<uint32_t>(target_.hidden)) {
      return differs("target_hidden_size", taken, target_.hidden);
    }
    if (keys_.count("block_count").value_or(0) != 1) return corrupt("has not exactly one layer");
    const auto heads = static_cast<uint32_t>(info_.shape.heads);
    const uint32_t kv_heads = optional_count("attention.head_count_kv", heads);
    const uint32_t head_dim =
        optional_count("attention.key_length", keys_.count("embedding_length").value_or(0) / heads);
    if (kv_heads == 0 || kv_heads > heads || heads % kv_heads != 0) {
      return corrupt("has head counts that do not fit: " + std::to_string(heads) + " and " +
                     std::to_string(kv_heads));
    }
    // RoPE turns pairs, all of the head: llama.cpp asserts on anything else.
    if (head_dim == 0 || head_dim > kCountMax || head_dim % 2 != 0 ||
        optional_count("attention.value_length", head_dim) != head_dim ||
        optional_count("rope.dimension_count", head_dim) != head_dim) {
      return corrupt("has head sizes that do not fit each other");
    }
    info_.shape.kv_heads = static_cast<int>(kv_heads);
    info_.shape.head_dim = static_cast<int>(head_dim);
    return Status::ok();
  }

  // 0, which no caller accepts, for a key of another type.
  uint32_t optional_count(std::string_view name, uint32_t fallback) const {
    return keys_.has(name) ? keys_.count(name).value_or(0) : fallback;
  }

  Status taps() {
    const int64_t id = file_.find("eagle3.target_layers", GGUF_TYPE_ARRAY);
    if (id < 0 || gguf_get_arr_n(file_.meta(), id) != 3)
      return corrupt("has not three target_layers");
    const gguf_type type = gguf_get_arr_type(file_.meta(), id);
    if (type != GGUF_TYPE_INT32 && type != GGUF_TYPE_UINT32) {
      return corrupt("has target_layers that are no 32-bit numbers");
    }
    int32_t layers[3];
    std::memcpy(layers, gguf_get_arr_data(file_.meta(), id), sizeof layers);
    for (int i = 0; i < 3; ++i) {
      if (layers[i] < 0 || layers[i] >= target_.layers) {
        return invalid("taps layer " + std::to_string(layers[i]) + " of a target with " +
                       std::to_string(target_.layers));
      }
      info_.shape.tap_layers[i] = layers[i];
    }
    return Status::ok();
  }

  Status numbers() {
    const float eps = keys_.real("attention.layer_norm_rms_epsilon").value_or(-1);
    if (!(eps > 0 && eps < 1)) return corrupt("has no usable layer_norm_rms_epsilon");
    if (keys_.has("rope.freq_base") && !(keys_.real("rope.freq_base").value_or(0) > 0)) {
      return corrupt("has no usable rope.freq_base");
    }
    if (!std::isfinite(keys_.real("rope.freq_base").value_or(1))) {
      return corrupt("has no usable rope.freq_base");
    }
    const uint32_t context = keys_.count("context_length").value_or(0);
    if (context == 0 || context > INT32_MAX) return corrupt("has no usable context_length");
    for (const char* name : {"rope.scaling.factor", "rope.scaling.original_context_length"}) {
      const bool fits = keys_.real(name).value_or(0) > 0 || keys_.count(name).value_or(0) > 0;
      if (keys_.has(name) && !fits) return corrupt("has no usable " + std::string(name));
    }
    if (!keys_.has("rope.scaling.type")) return Status::ok();
    const int64_t id = file_.find("eagle3.rope.scaling.type", GGUF_TYPE_STRING);
    const std::string scaling = id < 0 ? "" : gguf_get_val_str(file_.meta(), id);
    if (scaling == "none" || scaling == "linear" || scaling == "yarn") return Status::ok();
    return corrupt("has an unknown rope.scaling.type");
  }

  Status tokenizer() {
    const int64_t id = file_.find("tokenizer.ggml.tokens", GGUF_TYPE_ARRAY);
    if (id < 0 || gguf_get_arr_type(file_.meta(), id) != GGUF_TYPE_STRING) {
      return corrupt("has no tokenizer");
    }
    const auto tokens = static_cast<int64_t>(gguf_get_arr_n(file_.meta(), id));
    if (tokens != target_.vocab) return differs("a vocabulary of", tokens, target_.vocab);
    if (keys_.has("vocab_size") &&
        keys_.count("vocab_size").value_or(0) != static_cast<uint32_t>(target_.vocab)) {
      return corrupt("has a vocab_size that is not its number of tokens");
    }
    if (target_.tokenizer.empty()) return Status::ok();
    const TokenizerDigest ours = tokenizer_digest(file_);
    for (const auto& [key, value] : target_.tokenizer) {
      const auto found = ours.find(key);
      if (found == ours.end() || found->second != value) {
        return invalid("has another tokenizer than the target: " + key + " differs");
      }
    }
    if (ours.size() == target_.tokenizer.size()) return Status::ok();
    return invalid("has another tokenizer than the target: it has more keys");
  }

  Status tensors() {
    const int64_t d2t = gguf_find_tensor(file_.meta(), "d2t");
    if (d2t < 0) return corrupt("has no tensor d2t");
    info_.vocab = gguf_get_tensor_ne(file_.meta(), d2t)[0];
    if (info_.vocab < 1 || info_.vocab > target_.vocab) {
      return invalid("drafts " + std::to_string(info_.vocab) + " tokens, the target has " +
                     std::to_string(target_.vocab));
    }
    info_.shape.target_vocab = target_.vocab;
    if (Status status = tensor(d2t, {"d2t", 1, info_.vocab, false, nullptr}); !status)
      return status;
    int64_t found = 1;
    for (const DraftTensor& wanted : draft_tensors(info_.shape, info_.vocab)) {
      const int64_t id = gguf_find_tensor(file_.meta(), wanted.name);
      const bool before_fc = std::string_view(wanted.name) == "enc.output_norm.weight";
      if (before_fc && !keys_.flag("norm_before_fc")) continue;
      if (id < 0 && wanted.optional && !before_fc) continue;
      if (id < 0) return corrupt("has no tensor " + std::string(wanted.name));
      ++found;
      if (Status status = tensor(id, wanted); !status) return status;
    }
    if (found == gguf_get_n_tensors(file_.meta())) return Status::ok();
    return invalid("has tensors that a draft may not have");
  }

  Status tensor(int64_t id, const DraftTensor& wanted) const {
    const int64_t* ne = gguf_get_tensor_ne(file_.meta(), id);
    const std::string name = std::string("tensor ") + wanted.name;
    if (ne[0] != wanted.cols || ne[1] != wanted.rows || ne[2] != 1 || ne[3] != 1) {
      return invalid("has " + name + " of shape " + std::to_string(ne[0]) + " x " +
                     std::to_string(ne[1]) + ", expected " + std::to_string(wanted.cols) + " x " +
                     std::to_string(wanted.rows));
    }
    const ggml_type type = gguf_get_tensor_type(file_.meta(), id);
    const bool is_d2t = std::string_view(wanted.name) == "d2t";
    // Norms are multiplied element by element, for which llama.cpp wants fp32.
    const bool fits = is_d2t ? type == GGML_TYPE_I64
                             : type == GGML_TYPE_F32 || (wanted.matrix && can_dequantise(type));
    if (fits) return Status::ok();
    return corrupt("has " + name + " of type " + ggml_type_name(type));
  }

  Status ids() {
    std::vector<int64_t> d2t(static_cast<size_t>(info_.vocab));
    const auto tensor = file_.tensor("d2t");
    if (!file_.read(tensor->begin, std::as_writable_bytes(std::span(d2t)))) {
      return Status::io(path_ + " cannot be read");
    }
    int64_t previous = -1;
    for (const int64_t token : d2t) {
      if (token < 0 || token >= target_.vocab) {
        return corrupt("has the token id " + std::to_string(token) + " in d2t, out of range");
      }
      if (token <= previous) return corrupt("has token ids in d2t that do not rise");
      previous = token;
    }
    return Status::ok();
  }

  // Row by row, in pieces of about 1 MiB: the shape is known to fit by now, so a row is small.
  Status weights(const GgufTensor& tensor) const {
    if (tensor.type == GGML_TYPE_I64) return Status::ok();
    const size_t row_bytes = ggml_row_size(tensor.type, tensor.cols);
    const auto rows = static_cast<size_t>(tensor.rows);
    const size_t rows_at_once = std::clamp<size_t>(kPieceBytes / row_bytes, 1, rows);
    std::vector<std::byte> raw(rows_at_once * row_bytes);
    std::vector<float> row(static_cast<size_t>(tensor.cols));
    for (size_t first = 0; first < rows; first += rows_at_once) {
      const size_t count = std::min(rows_at_once, rows - first);
      const std::span<std::byte> piece(raw.data(), count * row_bytes);
      if (!file_.read(tensor.begin + first * row_bytes, piece)) {
        return Status::io(path_ + " cannot be read");
      }
      for (size_t r = 0; r < count; ++r) {
        dequantise_row(tensor.type, piece.data() + r * row_bytes, tensor.cols, row.data());
        if (finite(row)) continue;
        return corrupt("holds a number that is not finite in tensor " + tensor.name + ", row " +
                       std::to_string(first + r));
      }
    }
    return Status::ok();
  }

  const std::string path_;
  const DraftTarget& target_;
  const GgufFile& file_;
  const Keys keys_;
  DraftFileInfo info_;
};

}  // namespace

Result<DraftFileInfo> check_draft_file(const std::string& path, const DraftTarget& target) {
  try {
    const auto file = GgufFile::open(path);
    if (!file) return file.status();
    return Check(target, **file).run();
  } catch (const std::exception& e) {  // bad_alloc on a hostile count
    return Status::corrupt(path + " cannot be read: " + e.what());
  }
}

}  // namespace aurora
