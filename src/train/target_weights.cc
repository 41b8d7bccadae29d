#include "train/target_weights.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "draft/model_files.h"
#include "draft/taps.h"

namespace aurora {
namespace {

// Architectures whose RoPE turns neighbouring values, as the eagle3 graph does. Every other one is
// taken to turn value i together with value i + n/2; were that wrong, the draft would only start
// worse, for it is trained afterwards.
constexpr std::array<std::string_view, 21> kInterleavedRope = {
    "llama",   "llada",     "deci",  "baichuan", "internlm2", "minicpm",   "xverse",
    "cohere2", "command-r", "olmo",  "plm",      "chatglm",   "chameleon", "granite",
    "smollm3", "ernie4_5",  "arcee", "glm4",     "mistral3",  "maincoder", "nanbeige"};

bool interleaved_rope(std::string_view architecture) {
  return std::find(kInterleavedRope.begin(), kInterleavedRope.end(), architecture) !=
         kInterleavedRope.end();
}

std::string block_name(int layer, const char* part) {
  return "blk." + std::to_string(layer) + "." + part + ".weight";
}

// weight: [heads * head_dim, cols]. Of the first `rotated` rows of a head, the pair (i, i +
// rotated/2) becomes neighbours. q and k turn alike, so their products stay what they were.
std::vector<float> to_interleaved(const std::vector<float>& weight, int head_dim, int rotated,
                                  int cols) {
  std::vector<float> out(weight.size());
  const size_t rows = weight.size() / static_cast<size_t>(cols);
  for (size_t row = 0; row < rows; ++row) {
    const int inner = static_cast<int>(row % static_cast<size_t>(head_dim));
    const size_t head_start = row - static_cast<size_t>(inner);
    int source = inner;
    if (inner < rotated) source = inner / 2 + (inner % 2) * (rotated / 2);
    std::copy_n(weight.begin() + static_cast<ptrdiff_t>((head_start + source) * cols), cols,
                out.begin() + static_cast<ptrdiff_t>(row * cols));
  }
  return out;
}

// [rows, cols] to [rows, 2 cols]: zeros for the token embedding, the target's weight for its hidden
// state.
std::vector<float> behind_zeros(const std::vector<float>& weight, int cols) {
  std::vector<float> out(weight.size() * 2, 0.0f);
  const size_t rows = weight.size() / static_cast<size_t>(cols);
  for (size_t row = 0; row < rows; ++row) {
    std::copy_n(weight.begin() + static_cast<ptrdiff_t>(row * cols), cols,
                out.begin() + static_cast<ptrdiff_t>((2 * row + 1) * cols));
  }
  return out;
}

std::vector<float> pass_last_tap(int hidden) {
  std::vector<float> fc(static_cast<size_t>(hidden) * hidden * 3, 0.0f);
  for (int row = 0; row < hidden; ++row) {
    fc[static_cast<size_t>(row) * hidden * 3 + 2 * hidden + row] = 1.0f;
  }
  return fc;
}

}  // namespace

struct TargetWeights::Impl {
  std::unique_ptr<ModelFile> file;
  std::string architecture;
  DraftShape shape;
  int rotated = 0;  // values of a head that RoPE turns
  GgufTensor embedding, head, attn_norm, q, k, v, o, ffn_norm, gate, up, down, output_norm;

  Status read_shape();
  Status find_tensors();
};

Status TargetWeights::Impl::read_shape() {
  auto name = file->keys().text("general.architecture");
  if (!name) return name.status();
  architecture = *name;
  const std::string prefix = architecture + ".";
  Status failure;
  const auto integer = [&](const char* key, size_t index, std::optional<int64_t> otherwise) {
    if (otherwise && !file->keys().has(prefix + key)) return static_cast<int>(*otherwise);
    auto value = file->keys().integer(prefix + key, index);
    // Above a billion (some contexts come near it) a file is broken.
    if (value && (*value < 1 || *value > (1 << 30))) {
      value = Status::invalid(file->path() + ": impossible " + prefix + key);
    }
    if (!value && failure) failure = value.status();
    return value ? static_cast<int>(*value) : 1;
  };
  shape.target_layers = integer("block_count", 0, {});
  const size_t last = static_cast<size_t>(shape.target_layers) - 1;
  shape.hidden = integer("embedding_length", 0, {});
  shape.heads = integer("attention.head_count", last, {});
  shape.kv_heads = integer("attention.head_count_kv", last, shape.heads);
  shape.head_dim = integer("attention.key_length", 0, shape.hidden / shape.heads);
  shape.ff = integer("feed_forward_length", last, {});
  shape.context = integer("context_length", 0, {});
  rotated = integer("rope.dimension_count", 0, shape.head_dim);
  if (!failure) return failure;
  const auto eps = file->keys().number(prefix + "attention.layer_norm_rms_epsilon");
  if (!eps) return eps.status();
  shape.rms_eps = static_cast<float>(*eps);
  if (file->keys().has(prefix + "rope.freq_base")) {
    const auto base = file->keys().number(prefix + "rope.freq_base");
    if (!base) return base.status();
    shape.rope_base = static_cast<float>(*base);
  }
  if (rotated > shape.head_dim || rotated % 2 != 0 || shape.head_dim % 2 != 0) {
    return Status::invalid(file->path() + ": impossible " + prefix + "rope.dimension_count");
  }
  default_tap_layers(shape.target_layers, shape.tap_layers);
  return Status::ok();
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
  const int last = shape.target_layers - 1;
  const int64_t hidden = shape.hidden;
  const int64_t q_rows = static_cast<int64_t>(shape.heads) * shape.head_dim;
  const int64_t kv_rows = static_cast<int64_t>(shape.kv_heads) * shape.head_dim;
  const auto any_embedding = file->tensor("token_embd.weight");
  if (!any_embedding) return any_embedding.status();
  shape.target_vocab = static_cast<int>(any_embedding->rows);
  embedding = find("token_embd.weight", shape.target_vocab, hidden);
  // Without a head of its own the target uses its embedding as head.
  const bool tied = !file->has_tensor("output.weight");
  head = find(tied ? "token_embd.weight" : "output.weight", shape.target_vocab, hidden);
  output_norm = find("output_norm.weight", 1, hidden);
  attn_norm = find(block_name(last, "attn_norm"), 1, hidden);
  q = find(block_name(last, "attn_q"), q_rows, hidden);
  k = find(block_name(last, "attn_k"), kv_rows, hidden);
  v = find(block_name(last, "attn_v"), kv_rows, hidden);
  o = find(block_name(last, "attn_output"), hidden, q_rows);
  ffn_norm = find(block_name(last, "ffn_norm"), 1, hidden);
  gate = find(block_name(last, "ffn_gate"), shape.ff, hidden);
  up = find(block_name(last, "ffn_up"), shape.ff, hidden);
  down = find(block_name(last, "ffn_down"), hidden, shape.ff);
  return failure;
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
  return std::unique_ptr<TargetWeights>(new TargetWeights(std::move(impl)));
}

const DraftShape& TargetWeights::shape() const { return impl_->shape; }
const std::string& TargetWeights::architecture() const { return impl_->architecture; }
const std::string& TargetWeights::path() const { return impl_->file->path(); }

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
  return read_rows(impl_->head, ids, out);
}

Result<DraftWeights> TargetWeights::initial_draft(std::span<const int64_t> draft_vocab) const {
  if (draft_vocab.empty() || !std::is_sorted(draft_vocab.begin(), draft_vocab.end()) ||
      std::adjacent_find(draft_vocab.begin(), draft_vocab.end()) != draft_vocab.end()) {
    return Status::invalid("the draft vocabulary must be rising and not empty");
  }
  const Impl& target = *impl_;
  const int hidden = target.shape.hidden;
  DraftWeights draft;
  draft.shape = target.shape;
  draft.d2t.assign(draft_vocab.begin(), draft_vocab.end());
  draft.fc = pass_last_tap(hidden);
  // The target norms no token embedding in its last layer: ones give the zero columns inputs of
  // unit size to grow from.
  draft.attn_norm.assign(static_cast<size_t>(hidden), 1.0f);
  draft.hidden_norm = dequantise(target.attn_norm);
  std::vector<float> q = dequantise(target.q);
  std::vector<float> k = dequantise(target.k);
  if (!interleaved_rope(target.architecture)) {
    q = to_interleaved(q, target.shape.head_dim, target.rotated, hidden);
    k = to_interleaved(k, target.shape.head_dim, target.rotated, hidden);
  }
  draft.wq = behind_zeros(q, hidden);
  draft.wk = behind_zeros(k, hidden);
  draft.wv = behind_zeros(dequantise(target.v), hidden);
  draft.wo = dequantise(target.o);
  draft.ffn_norm = dequantise(target.ffn_norm);
  draft.gate = dequantise(target.gate);
  draft.up = dequantise(target.up);
  draft.down = dequantise(target.down);
  draft.output_norm = dequantise(target.output_norm);
  draft.output.resize(draft_vocab.size() * static_cast<size_t>(hidden));
  if (Status status = head_rows(draft_vocab, draft.output.data()); !status) return status;
  return draft;
}

}  // namespace aurora
