#include "train/target_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>

#include "draft/model_files.h"
#include "draft/taps.h"
#include "train/layer_copy.h"

namespace aurora {
namespace {

// Architectures whose RoPE turns neighbouring values, as the eagle3 graph does. Every other one is
// taken to turn value i together with value i + n/2; were that wrong, the draft would only start
// worse, for it is trained afterwards.
constexpr std::array kInterleavedRope = std::to_array<std::string_view>(
    {"llama",       "llama4",     "llada",       "deci",          "baichuan",     "starcoder",
     "internlm2",   "minicpm",    "xverse",      "command-r",     "cohere2",      "cohere2moe",
     "olmo",        "arctic",     "deepseek",    "muse-glimmer",  "plm",          "chatglm",
     "granite",     "granitemoe", "granite_swa", "graniteswitch", "chameleon",    "bailingmoe",
     "bailingmoe3", "smollm3",    "arcee",       "ernie4_5",      "ernie4_5-moe", "mistral3",
     "maincoder",   "nanbeige",   "glm4"});

// Gated by GELU: no tensor says so.
constexpr std::array kGeluGate =
    std::to_array<std::string_view>({"gemma", "gemma2", "gemma3", "gemma4", "grok", "spark2_5"});

template <size_t N>
bool is_one_of(const std::array<std::string_view, N>& names, std::string_view architecture) {
  return std::find(names.begin(), names.end(), architecture) != names.end();
}

// Of a draft's attention that starts at random: the first that divides the width.
constexpr std::array kHeadDims = {64, 32, 16, 8, 4, 2};

constexpr double kRopeBaseMax = 1e30;

}  // namespace

struct TargetWeights::Impl {
  std::unique_ptr<ModelFile> file;
  std::string architecture;
  DraftShape shape;
  LayerCopyOptions copy;
  TargetLayer layer;
  float logit_scale = 1;
  GgufTensor embedding, head;
  std::optional<GgufTensor> output_norm;

  Status read_shape();
  void read_scales();
  Status find_tensors();
  void take_layer_shape();
};

Status TargetWeights::Impl::read_shape() {
  auto name = file->keys().text("general.architecture");
  if (!name) return name.status();
  architecture = *name;
  const std::string prefix = architecture + ".";
  Status failure;
  const auto integer = [&](const char* key) {
    auto value = file->keys().integer(prefix + key);
    // Above a billion (some contexts come near it) a file is broken.
    if (value && (*value < 1 || *value > (1 << 30))) {
      value = Status::invalid(file->path() + ": impossible " + prefix + key);
    }
    if (!value && failure) failure = value.status();
    return value ? static_cast<int>(*value) : 1;
  };
  shape.target_layers = integer("block_count");
  shape.hidden = integer("embedding_length");
  shape.context = integer("context_length");
  if (!failure) return failure;
  if (shape.hidden % 2 != 0)
    return Status::invalid(file->path() + ": impossible " + prefix + "embedding_length");
  // The layers behind the last one that draft themselves (MTP) are no part of the target.
  const auto drafting = file->keys().integer(prefix + "nextn_predict_layers");
  if (drafting && *drafting > 0 && *drafting < shape.target_layers)
    shape.target_layers -= static_cast<int>(*drafting);
  default_tap_layers(shape.target_layers, shape.tap_layers);
  return Status::ok();
}

void TargetWeights::Impl::read_scales() {
  const std::string prefix = architecture + ".";
  const auto number = [&](const char* key) {
    const auto value = file->keys().number(prefix + key);
    return value && *value > 0 ? static_cast<float>(*value) : 0.0f;
  };
  const float rms = number("attention.layer_norm_rms_epsilon");
  const float mean_too = number("attention.layer_norm_epsilon");
  copy.centred = rms == 0 && mean_too > 0;
  if (rms > 0 || mean_too > 0) shape.rms_eps = rms > 0 ? rms : mean_too;
  if (const float base = number("rope.freq_base"); base > 0) shape.rope_base = base;
  // Some multiply logits by it (cohere), others divide (granite): all make them smaller.
  if (const float scale = number("logit_scale"); scale > 0)
    logit_scale = std::min(scale, 1 / scale);
  copy.interleaved_rope = is_one_of(kInterleavedRope, architecture);
  copy.gelu_gate = is_one_of(kGeluGate, architecture);
}

Status TargetWeights::Impl::find_tensors() {
  Status failure;
  const auto find = [&](const std::string& tensor_name, int64_t rows, int64_t cols) {
    auto found = file->tensor(tensor_name, rows, cols);
    if (found && !can_dequantise(found->type)) {
      found = Status::invalid(file->path() + ": tensor " + tensor_name + " is of an unknown type");
    }
    if (!found && failure) failure = found.status();
    return found ? *found : GgufTensor{};
  };
  const auto any_embedding = file->tensor("token_embd.weight");
  if (!any_embedding) return any_embedding.status();
  shape.target_vocab = static_cast<int>(any_embedding->rows);
  embedding = find("token_embd.weight", shape.target_vocab, shape.hidden);
  // Without a head of its own the target uses its embedding as head.
  const bool tied = !file->has_tensor("output.weight");
  head = find(tied ? "token_embd.weight" : "output.weight", shape.target_vocab, shape.hidden);
  if (file->has_tensor("output_norm.weight"))
    output_norm = find("output_norm.weight", 1, shape.hidden);
  return failure;
}

void TargetWeights::Impl::take_layer_shape() {
  layer = find_target_layer(*file, architecture, shape.hidden, shape.target_layers - 1);
  shape.ff = layer.width;
  if (layer.attention) {
    shape.heads = layer.attention->heads;
    shape.kv_heads = layer.attention->kv_heads;
    shape.head_dim = layer.attention->head_dim;
  } else {
    shape.head_dim = *std::find_if(kHeadDims.begin(), kHeadDims.end(),
                                   [this](int dim) { return shape.hidden % dim == 0; });
    shape.heads = shape.kv_heads = shape.hidden / shape.head_dim;
  }
  const auto rotated = file->keys().integer(architecture + ".rope.dimension_count");
  const bool possible = rotated && *rotated > 0 && *rotated <= shape.head_dim && *rotated % 2 == 0;
  copy.rotated = possible ? static_cast<int>(*rotated) : shape.head_dim;
  // A draft turns all of a head. By this base the part that the target turns goes by the target's
  // frequencies, and the rest so slowly that it stands nearly still.
  const double base = std::pow(double{shape.rope_base}, double(shape.head_dim) / copy.rotated);
  if (layer.attention) shape.rope_base = static_cast<float>(std::min(base, kRopeBaseMax));
}

TargetWeights::TargetWeights(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TargetWeights::~TargetWeights() = default;

Result<std::unique_ptr<TargetWeights>> TargetWeights::open(const std::string& path) {
  auto file = ModelFile::open(path);
  // Whoever names a file that is no model has to name another one: no later try helps.
  if (!file && file.status().code() == StatusCode::kCorrupt) {
    return Status::invalid(file.status().message());
  }
  if (!file) return file.status();
  auto impl = std::make_unique<Impl>();
  impl->file = std::move(*file);
  if (Status status = impl->read_shape(); !status) return status;
  if (Status status = impl->find_tensors(); !status) return status;
  impl->read_scales();
  impl->take_layer_shape();
  return std::unique_ptr<TargetWeights>(new TargetWeights(std::move(impl)));
}

const DraftShape& TargetWeights::shape() const { return impl_->shape; }
const std::string& TargetWeights::architecture() const { return impl_->architecture; }
const std::string& TargetWeights::path() const { return impl_->file->path(); }
const std::vector<std::string>& TargetWeights::notes() const { return impl_->layer.notes; }

namespace {

template <typename Id>
Status read_rows(const GgufTensor& tensor, std::span<const Id> ids, float* out) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= tensor.rows) {
      return Status::invalid("token " + std::to_string(ids[i]) +
                             " is not in the target's vocabulary");
    }
    dequantise_row(tensor, ids[i], out + i * static_cast<size_t>(tensor.cols));
  }
  return Status::ok();
}

}  // namespace

Status TargetWeights::token_rows(std::span<const int32_t> ids, float* out) const {
  return read_rows(impl_->embedding, ids, out);
}

Status TargetWeights::head_rows(std::span<const int64_t> ids, float* out) const {
  Status status = read_rows(impl_->head, ids, out);
  const size_t values = ids.size() * static_cast<size_t>(impl_->shape.hidden);
  if (status && impl_->logit_scale != 1)
    for (float& value : std::span(out, values)) value *= impl_->logit_scale;
  return status;
}

Result<DraftWeights> TargetWeights::initial_draft(std::span<const int64_t> draft_vocab) const {
  if (draft_vocab.empty() || !std::is_sorted(draft_vocab.begin(), draft_vocab.end()) ||
      std::adjacent_find(draft_vocab.begin(), draft_vocab.end()) != draft_vocab.end()) {
    return Status::invalid("the draft vocabulary must be rising and not empty");
  }
  const auto hidden = static_cast<size_t>(impl_->shape.hidden);
  DraftWeights draft;
  draft.shape = impl_->shape;
  draft.d2t.assign(draft_vocab.begin(), draft_vocab.end());
  // The target norms no token embedding in its last layer: ones give the zero columns inputs of
  // unit size to grow from.
  draft.attn_norm.assign(hidden, 1.0f);
  copy_layer(impl_->layer, impl_->copy, draft);
  const auto& norm = impl_->output_norm;
  draft.output_norm = norm ? dequantise(*norm) : std::vector<float>(hidden, 1.0f);
  draft.output.resize(draft_vocab.size() * hidden);
  if (Status status = head_rows(draft_vocab, draft.output.data()); !status) return status;
  return draft;
}

}  // namespace aurora
