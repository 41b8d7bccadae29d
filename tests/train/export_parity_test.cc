// A draft as exported, run by a layer written here after SpecForge's and vLLM's forward (halves
// rotated, plain loops, fp64), gives the logits that llama.cpp gives for the GGUF. Tolerance, of
// the largest absolute logit: 2e-4, as in the parity test with the trainer.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "draft/draft_file.h"
#include "draft/head_files.h"
#include "registry/temp_dir.h"
#include "train/llama_draft.h"
#include "train/target_weights.h"
#include "train/tiny_target.h"

namespace aurora {
namespace {

using Vector = std::vector<double>;

// The exported file alone; sizes from its shapes, numbers from TinyTarget.
class Reference {
 public:
  Reference(const std::string& path, const char* layer, bool norm_before_residual)
      : layer_(layer), norm_before_residual_(norm_before_residual) {
    auto file = SafetensorsFile::open(path);
    EXPECT_TRUE(file) << file.status().to_string();
    for (const SafeTensor& tensor : file->tensors()) {
      if (tensor.type != SafeType::kF32) continue;
      std::vector<float> values(tensor.data.size() / 4);
      std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
      weights_[tensor.name] = values;
    }
  }

  Vector fuse(std::span<const float> taps) const {
    const Vector a = {taps.begin(), taps.end()};
    return times("fc.weight",
                 weights_.contains("input_norm.weight") ? norm("input_norm.weight", a) : a);
  }

  // One more (token, g) at the next position: its pre-norm output. The embedding is the target's,
  // where the head brings none.
  Vector step(int32_t token, const std::vector<float>& target_embedding, const Vector& g) {
    const auto own = weights_.find("embed_tokens.weight");
    const float* row = (own == weights_.end() ? target_embedding : own->second).data() + token * 64;
    Vector z = norm(in_layer("input_layernorm"), {row, row + 64});
    const Vector right = norm(in_layer("hidden_norm"), g);
    z.insert(z.end(), right.begin(), right.end());
    const int position = static_cast<int>(keys_.size());
    const Vector q = rotated(times(in_layer("self_attn.q_proj"), z), position);
    keys_.push_back(rotated(times(in_layer("self_attn.k_proj"), z), position));
    values_.push_back(times(in_layer("self_attn.v_proj"), z));
    const Vector h =
        plus(times(in_layer("self_attn.o_proj"), attend(q)), norm_before_residual_ ? right : g);
    const Vector u = norm(in_layer("post_attention_layernorm"), h);
    const Vector gate = times(in_layer("mlp.gate_proj"), u), up = times(in_layer("mlp.up_proj"), u);
    Vector inner(gate.size());
    for (size_t i = 0; i < inner.size(); ++i) inner[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    return plus(times(in_layer("mlp.down_proj"), inner), h);
  }

  Vector logits(const Vector& state) const {
    return times("lm_head.weight", norm("norm.weight", state));
  }

 private:
  static constexpr int kHeads = 4, kKvHeads = 2, kHeadDim = 16;

  std::string in_layer(const char* part) const {
    return layer_ + ("." + std::string(part)) + ".weight";
  }

  Vector times(const std::string& name, const Vector& x) const {
    const std::vector<float>& w = weights_.at(name);
    Vector out(w.size() / x.size());
    for (size_t row = 0; row < out.size(); ++row)
      for (size_t i = 0; i < x.size(); ++i) out[row] += double{w[row * x.size() + i]} * x[i];
    return out;
  }

  Vector norm(const std::string& name, Vector x) const {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
    for (size_t i = 0; i < x.size(); ++i) x[i] *= scale * double{weights_.at(name)[i]};
    return x;
  }

  static Vector plus(Vector a, const Vector& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }

  // "rotate_half": value i turns together with value i + n/2.
  static Vector rotated(const Vector& x, int position) {
    Vector out = x;
    for (size_t head = 0; head < x.size(); head += kHeadDim) {
      for (size_t i = 0; i < kHeadDim / 2; ++i) {
        const double angle = position * std::pow(5000.0, -2.0 * static_cast<double>(i) / kHeadDim);
        const double a = x[head + i], b = x[head + i + kHeadDim / 2];
        out[head + i] = a * std::cos(angle) - b * std::sin(angle);
        out[head + i + kHeadDim / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
    return out;
  }

  Vector attend(const Vector& q) const {
    Vector out(kHeads * kHeadDim);
    for (size_t head = 0; head < kHeads; ++head) {
      const size_t kv = head / (kHeads / kKvHeads) * kHeadDim, at = head * kHeadDim;
      Vector weight(keys_.size());
      double sum = 0;
      for (size_t row = 0; row < keys_.size(); ++row) {
        double dot = 0;
        for (size_t i = 0; i < kHeadDim; ++i) dot += q[at + i] * keys_[row][kv + i];
        sum += weight[row] = std::exp(dot / std::sqrt(double{kHeadDim}));
      }
      for (size_t row = 0; row < keys_.size(); ++row)
        for (size_t i = 0; i < kHeadDim; ++i)
          out[at + i] += weight[row] / sum * values_[row][kv + i];
    }
    return out;
  }

  const std::string layer_;
  const bool norm_before_residual_;
  std::map<std::string, std::vector<float>> weights_;
  std::vector<Vector> keys_, values_;
};

class ExportParity : public testing::Test {
 protected:
  ExportParity() {
    std::mt19937 words(4);
    for (size_t i = 0; i < kRow + kSteps + 1; ++i)
      tokens_.push_back(static_cast<int32_t>(words() % kTinyVocab));
    write_tiny_target(target_, {});
    auto target = TargetWeights::open(target_);
    std::vector<int64_t> vocab;
    for (int64_t id = 0; id < 100; ++id) vocab.push_back(id * kTinyVocab / 100);
    DraftWeights draft = std::move(*(*target)->initial_draft(vocab));
    // A start has zeros and copies where mistakes could hide.
    std::mt19937 rng(3);
    std::normal_distribution<float> noise(0, 0.1f);
    for (auto* field : {&draft.fc, &draft.attn_norm, &draft.hidden_norm, &draft.wq, &draft.wk,
                        &draft.wv, &draft.wo, &draft.ffn_norm, &draft.gate, &draft.up, &draft.down,
                        &draft.output_norm, &draft.output})
      for (float& value : *field) value += noise(rng);
    EXPECT_TRUE(write_draft_file(draft_, draft, target_, DraftDtype::kF32));
  }

  // The draft in llama.cpp against its export in the layer above, kSteps tokens behind row kRow.
  void compare(const RawDraft& raw, Dialect dialect, const char* layer) {
    const std::string name = std::to_string(compared_++), draft = dir_.file(name + ".gguf");
    const auto tokenizer = GgufFile::open(target_);
    ASSERT_TRUE(tokenizer);
    ASSERT_TRUE(write_raw_draft(draft, raw, **tokenizer));
    auto llama = LlamaDraft::open(target_, draft, {.threads = 1, .context = 256, .kv_f32 = true});
    ASSERT_TRUE(llama) << llama.status().to_string();
    const auto rows = (*llama)->run_target(tokens_);
    ASSERT_TRUE(rows);
    const auto expected = (*llama)->draft(rows->taps, tokens_, kRow, kSteps,
                                          std::span(tokens_).subspan(kRow + 2, kSteps - 1));
    ASSERT_TRUE(expected);

    ASSERT_TRUE(
        export_head(raw, dir_.file(name), {.dialect = dialect, .type = {}, .verifier = ""}));
    Reference reference(dir_.file(name) + "/model.safetensors", layer, raw.norm_before_residual);
    Vector state;
    for (size_t row = 0; row <= kRow; ++row) {
      const auto taps = std::span(rows->taps).subspan(row * 3 * 64, 3 * 64);
      state = reference.step(tokens_[row + 1], embedding_, reference.fuse(taps));
    }
    double worst = 0, largest = 0;
    for (size_t k = 0; k < kSteps; ++k) {
      if (k > 0) state = reference.step(tokens_[kRow + 1 + k], embedding_, state);
      const Vector ours = reference.logits(state);
      ASSERT_EQ(ours.size(), expected->logits[k].size());
      for (size_t v = 0; v < ours.size(); ++v) {
        worst = std::max(worst, std::abs(ours[v] - double{expected->logits[k][v]}));
        largest = std::max(largest, std::abs(ours[v]));
      }
    }
    EXPECT_GT(largest, 0.1);
    EXPECT_LT(worst / largest, 2e-4) << layer;
  }

  static constexpr size_t kRow = 20, kSteps = 3;
  const std::vector<float> embedding_ = tiny_values("token_embd.weight", kTinyVocab * 64, 1);
  std::vector<int32_t> tokens_;
  int compared_ = 0;
  const TempDir dir_;
  const std::string target_ = dir_.file("target.gguf"), draft_ = dir_.file("draft.gguf");
};

TEST_F(ExportParity, LogitsOfTheExportAreTheDrafts) {
  const auto raw = read_raw_draft(draft_);
  ASSERT_TRUE(raw);
  compare(*raw, Dialect::kSpecForge, "midlayer");
  compare(*raw, Dialect::kVllm, "layers.0");
}

// What a head of others may have, and ours have not: nobody but llama.cpp says what it does with
// it.
TEST_F(ExportParity, VariantsToo) {
  auto raw = read_raw_draft(draft_);
  ASSERT_TRUE(raw);
  std::mt19937 rng(8);
  std::normal_distribution<float> noise(0, 0.5f);
  const auto random = [&](size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = noise(rng);
    const auto bytes = std::as_bytes(std::span(values));
    return RawTensor{GGML_TYPE_F32, {bytes.begin(), bytes.end()}};
  };
  raw->norm_before_residual = true;
  compare(*raw, Dialect::kSpeculators, "layers.0");
  raw->norm_before_fc = true;
  raw->tensors["enc.output_norm.weight"] = random(3 * 64);
  raw->tensors["token_embd.weight"] = random(kTinyVocab * 64);
  compare(*raw, Dialect::kSpecForge, "midlayer");
}

TEST_F(ExportParity, ComesBackAsTheSameFile) {
  const auto raw = read_raw_draft(draft_);
  ASSERT_TRUE(raw);
  ASSERT_TRUE(export_head(*raw, dir_.file("head"), {}));
  const auto target = GgufFile::open(target_);
  ASSERT_TRUE(target);
  const auto fits = head_target(**target);
  ASSERT_TRUE(fits) << fits.status().to_string();
  const auto back = import_head(dir_.file("head"), fits->shape, std::nullopt);
  ASSERT_TRUE(back) << back.status().to_string();
  ASSERT_TRUE(write_raw_draft(dir_.file("back.gguf"), *back, **target));
  EXPECT_TRUE(check_draft_file(dir_.file("back.gguf"), fits->check));
  EXPECT_TRUE(dir_.read("back.gguf") == dir_.read("draft.gguf"));
}

}  // namespace
}  // namespace aurora
