#include "train/target_layer.h"

#include <ggml.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace aurora {
namespace {

constexpr int kCountMax = 1 << 20;  // heads, experts: above it a file is broken

class Finder {
 public:
  Finder(const ModelFile& target, std::string architecture, int hidden, int layer)
      : target_(target),
        prefix_(std::move(architecture) + "."),
        block_("blk." + std::to_string(layer) + "."),
        hidden_(hidden),
        layer_(static_cast<size_t>(layer)) {}

  TargetLayer find() {
    find_norms();
    find_attention();
    find_mlp();
    note_left_out();
    const auto scale = number("residual_scale");
    if (scale && *scale > 0) out_.residual_scale = static_cast<float>(*scale);
    return std::move(out_);
  }

 private:
  std::optional<int> count(const char* key) const {
    const auto value = target_.keys().integer(prefix_ + key, layer_);
    if (!value || *value < 1 || *value > kCountMax) return {};
    return static_cast<int>(*value);
  }
  std::optional<double> number(const char* key) const {
    const auto value = target_.keys().number(prefix_ + key, layer_);
    return value ? std::optional<double>(*value) : std::nullopt;
  }
  bool has(const std::string& part) const { return target_.has_tensor(block_ + part + ".weight"); }
  std::optional<GgufTensor> tensor(const std::string& part) const {
    auto found = target_.tensor(block_ + part + ".weight");
    if (!found || !can_dequantise(found->type) || found->rows < 1 || found->cols < 1) return {};
    return *found;
  }
  std::optional<GgufTensor> norm(const std::string& part) const {
    auto found = tensor(part);
    if (!found || found->rows != 1 || found->cols != hidden_) return {};
    return found;
  }
  // All rows of a tensor of so many columns; 0 rows: there is none.
  TensorRows whole(const std::string& part, int64_t cols) const {
    const auto found = tensor(part);
    if (!found || found->cols != cols) return {};
    return {*found, 0, found->rows};
  }
  static TensorRows part_of(const TensorRows& of, int64_t first, int64_t rows) {
    return {of.tensor, of.first + first, rows};
  }
  void note(std::string sentence) { out_.notes.push_back(std::move(sentence)); }

  void find_norms();
  void find_attention();
  std::optional<LayerAttention> attention() const;
  void find_mlp();
  void add_dense();
  void add_experts();
  void note_left_out();

  const ModelFile& target_;
  const std::string prefix_, block_;
  const int hidden_;
  const size_t layer_;
  TargetLayer out_;
};

// The name post_attention_norm stands for two things: the norm before the MLP where there is no
// other, and that of what attention writes.
void Finder::find_norms() {
  const bool outcome_norms = has("post_ffw_norm");
  const bool own = has("ffn_norm");
  out_.attention_norm = norm(has("attn_norm_2") ? "attn_norm_2" : "attn_norm");
  if (own || outcome_norms) {
    out_.mlp_norm = norm("ffn_norm");
    out_.attention_outcome_norm = norm("post_attention_norm");
    out_.mlp_outcome_norm = norm("post_ffw_norm");
  } else {
    out_.mlp_norm = norm("post_attention_norm");
  }
  if (out_.attention_outcome_norm || out_.mlp_outcome_norm)
    note("norms of what attention and MLP write become fixed scales of what they write");
  if (out_.mlp_norm || outcome_norms) return;
  out_.mlp_norm = norm("attn_norm");
  note("the MLP reads what attention reads there, and behind attention here");
}

std::optional<LayerAttention> Finder::attention() const {
  LayerAttention out;
  out.o = whole("attn_output", tensor("attn_output") ? tensor("attn_output")->cols : 0);
  const auto heads = count("attention.head_count");
  if (!heads || out.o.rows != hidden_ || out.o.tensor.cols % *heads != 0) return {};
  const int64_t q_rows = out.o.tensor.cols;
  out.heads = *heads;
  out.head_dim = static_cast<int>(q_rows / *heads);
  if (const TensorRows fused = whole("attn_qkv", hidden_); fused.rows > 0) {
    const int64_t kv_rows = (fused.rows - q_rows) / 2;
    if (kv_rows < 1 || q_rows + 2 * kv_rows != fused.rows) return {};
    out.q = part_of(fused, 0, q_rows);
    out.k = part_of(fused, q_rows, kv_rows);
    out.v = part_of(fused, q_rows + kv_rows, kv_rows);
  } else {
    out.q = whole("attn_q", hidden_);
    out.k = whole("attn_k", hidden_);
    out.v = whole("attn_v", hidden_);
  }
  if (out.q.rows != q_rows || out.k.rows < 1 || out.v.rows != out.k.rows) return {};
  if (out.head_dim % 2 != 0 || out.k.rows % out.head_dim != 0) return {};
  out.kv_heads = static_cast<int>(out.k.rows / out.head_dim);
  if (out.heads % out.kv_heads != 0) return {};
  out.q_norm = tensor("attn_q_norm");
  out.k_norm = tensor("attn_k_norm");
  const auto fits = [](const std::optional<GgufTensor>& n, const TensorRows& rows) {
    return !n || rows.rows % (n->rows * n->cols) == 0;
  };
  if (!fits(out.q_norm, out.q) || !fits(out.k_norm, out.k)) return {};
  if (const auto scale = number("attention.scale"); scale && *scale > 0)
    out.score_scale = static_cast<float>(*scale);
  return out;
}

void Finder::find_attention() {
  out_.attention = attention();
  if (out_.attention) {
    if (out_.attention->q_norm || out_.attention->k_norm)
      note("norms of queries and keys become fixed scales");
  } else if (has("attn_kv_a_mqa")) {
    note("attention starts at random: the target's keys and values are compressed (MLA)");
  } else if (!has("attn_output") || !(has("attn_qkv") || has("attn_k"))) {
    note("attention starts at random: the target's last layer has none");
  } else {
    note("attention starts at random: the target's has another shape");
  }
}

// The MLP that every token takes: gate and up apart or in one tensor, gate first.
void Finder::add_dense() {
  for (const char* ending : {"", "_shexp"}) {
    const std::string name = ending;
    const auto down = tensor("ffn_down" + name);
    if (!down || down->rows != hidden_) continue;
    const int64_t width = down->cols;
    TensorRows gate = whole("ffn_gate" + name, hidden_), up = whole("ffn_up" + name, hidden_);
    if (gate.rows == 0 && up.rows == 2 * width) {
      gate = part_of(up, 0, width);
      up = part_of(up, width, width);
    }
    if (gate.rows != width || up.rows != width) continue;
    // One that is gated by a single number is half open on average.
    const float weight = has("ffn_gate_inp" + name) ? 0.5f : 1.0f;
    out_.mlp.push_back({gate, up, {*down, 0, hidden_}, name.empty() ? 1.0f : weight});
  }
}

bool same(const TensorRows& a, const TensorRows& b) {
  if (a.rows != b.rows || a.tensor.cols != b.tensor.cols || a.tensor.type != b.tensor.type)
    return false;
  const size_t row_bytes = ggml_row_size(a.tensor.type, a.tensor.cols);
  return std::memcmp(a.tensor.data + static_cast<size_t>(a.first) * row_bytes,
                     b.tensor.data + static_cast<size_t>(b.first) * row_bytes,
                     static_cast<size_t>(a.rows) * row_bytes) == 0;
}

// As many of the experts as are at work for a token: which ones, the router says anew each time.
// Copies of one (a mixture made of a plain model) are one.
void Finder::add_experts() {
  const auto down = tensor("ffn_down_exps");
  const auto experts = count("expert_count"), used = count("expert_used_count");
  if (!down || !experts || !used || *used > *experts || down->rows != int64_t{*experts} * hidden_)
    return;
  const int64_t width = down->cols;
  const TensorRows gates = whole("ffn_gate_exps", hidden_), ups = whole("ffn_up_exps", hidden_);
  const TensorRows both = whole("ffn_gate_up_exps", hidden_);
  const bool apart = gates.rows == *experts * width && ups.rows == gates.rows;
  if (!apart && both.rows != 2 * *experts * width) return;
  const double scale = number("expert_weights_scale").value_or(1.0);
  const double weight = (scale > 0 ? scale : 1.0) / *used;
  for (int64_t e = 0; e < *used; ++e) {
    const TensorRows gate =
        apart ? part_of(gates, e * width, width) : part_of(both, 2 * e * width, width);
    const TensorRows up =
        apart ? part_of(ups, e * width, width) : part_of(both, (2 * e + 1) * width, width);
    LayerUnits units{gate, up, {*down, e * hidden_, hidden_}, static_cast<float>(weight)};
    const auto twin = std::find_if(out_.mlp.begin(), out_.mlp.end(), [&](const LayerUnits& other) {
      return same(other.gate, units.gate) && same(other.up, units.up) &&
             same(other.down, units.down);
    });
    if (twin != out_.mlp.end()) twin->weight += units.weight;
    else out_.mlp.push_back(std::move(units));
  }
  note("of " + std::to_string(*experts) + " experts the first " + std::to_string(*used) +
       " are copied, side by side and alike: as many as work for a token");
}

void Finder::find_mlp() {
  add_dense();
  add_experts();
  int64_t width = 0;
  for (const LayerUnits& units : out_.mlp) width += units.gate.rows;
  if (width == 0) {
    const bool ungated = has("ffn_up") && has("ffn_down");
    note(ungated ? "the MLP starts at random: the target's has no gate"
                 : "the MLP starts at random: the target's last layer has none like a draft's");
    width = std::min(count("feed_forward_length").value_or(4 * hidden_), 4 * hidden_);
  }
  out_.width = static_cast<int>(width);
}

// Whatever else the layer has: biases, attention's gate and sinks, norms within. Of a part that
// starts at random nothing has to be said again, and of the router neither.
void Finder::note_left_out() {
  std::set<std::string> used;
  const auto use = [&](const std::optional<GgufTensor>& tensor) {
    if (tensor) used.insert(tensor->name);
  };
  for (const auto& norm :
       {out_.attention_norm, out_.mlp_norm, out_.attention_outcome_norm, out_.mlp_outcome_norm})
    use(norm);
  if (const auto& a = out_.attention)
    for (const auto& tensor : {a->q.tensor, a->k.tensor, a->v.tensor, a->o.tensor}) use(tensor);
  if (const auto& a = out_.attention)
    for (const auto& norm : {a->q_norm, a->k_norm}) use(norm);
  for (const LayerUnits& units : out_.mlp)
    for (const auto& tensor : {units.gate.tensor, units.up.tensor, units.down.tensor}) use(tensor);

  std::string left;
  for (const std::string& name : target_.tensor_names()) {
    if (!name.starts_with(block_) || used.contains(name)) continue;
    const std::string part = name.substr(block_.size());
    if (part.starts_with("ffn_gate_inp")) continue;
    if (part.starts_with("attn_") && !out_.attention) continue;
    if (part.starts_with("ffn_") && out_.mlp.empty()) continue;
    left += (left.empty() ? "" : ", ") + part;
  }
  if (!left.empty()) note("a draft has no place for " + left);
}

}  // namespace

TargetLayer find_target_layer(const ModelFile& target, const std::string& architecture, int hidden,
                              int layer) {
  return Finder(target, architecture, hidden, layer).find();
}

}  // namespace aurora
