#include "train/target_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <vector>

#include "draft/draft_file.h"
#include "train/llama_draft.h"
#include "train/temp_file.h"
#include "train/tiny_target.h"

namespace aurora {
namespace {

std::vector<int64_t> whole_vocab(int size) {
  std::vector<int64_t> ids(static_cast<size_t>(size));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

std::string refusal(const TinyTarget& target) {
  const TempFile file("refused.gguf");
  write_tiny_target(file.path(), target);
  auto weights = TargetWeights::open(file.path());
  if (weights) return "";
  EXPECT_EQ(weights.status().code(), StatusCode::kInvalid);
  return weights.status().message();
}

TEST(TargetWeights, ReadsShapeAndRows) {
  const TempFile file("target.gguf");
  write_tiny_target(file.path(), {.tied = false});
  auto target = TargetWeights::open(file.path());
  ASSERT_TRUE(target) << target.status().to_string();
  const DraftShape& shape = (*target)->shape();
  EXPECT_EQ((*target)->architecture(), "llama");
  EXPECT_EQ(shape.hidden, 64);
  EXPECT_EQ(shape.heads, 4);
  EXPECT_EQ(shape.kv_heads, 2);
  EXPECT_EQ(shape.head_dim, 16);
  EXPECT_EQ(shape.ff, 96);
  EXPECT_EQ(shape.context, 256);
  EXPECT_EQ(shape.target_vocab, kTinyVocab);
  EXPECT_EQ(shape.target_layers, 6);
  EXPECT_FLOAT_EQ(shape.rms_eps, 1e-5f);
  EXPECT_FLOAT_EQ(shape.rope_base, 5000.0f);

  const auto embedding = tiny_values("token_embd.weight", kTinyVocab * 64, 1);
  const auto head = tiny_values("output.weight", kTinyVocab * 64, 1);
  const int32_t tokens[] = {7, 257};
  const int64_t ids[] = {3};
  std::vector<float> rows(2 * 64);
  ASSERT_TRUE((*target)->token_rows(tokens, rows.data()));
  EXPECT_TRUE(std::equal(rows.begin(), rows.begin() + 64, embedding.begin() + 7 * 64));
  EXPECT_TRUE(std::equal(rows.begin() + 64, rows.end(), embedding.begin() + 257 * 64));
  ASSERT_TRUE((*target)->head_rows(ids, rows.data()));
  EXPECT_TRUE(std::equal(rows.begin(), rows.begin() + 64, head.begin() + 3 * 64));
  const int32_t outside[] = {kTinyVocab};
  EXPECT_EQ((*target)->token_rows(outside, rows.data()).code(), StatusCode::kInvalid);
}

TEST(TargetWeights, TiedHeadIsTheEmbedding) {
  const TempFile file("tied.gguf");
  write_tiny_target(file.path(), {.tied = true});
  auto target = TargetWeights::open(file.path());
  ASSERT_TRUE(target) << target.status().to_string();
  const int64_t id = 5;
  const int32_t token = 5;
  std::vector<float> head(64), embedding(64);
  ASSERT_TRUE((*target)->head_rows({&id, 1}, head.data()));
  ASSERT_TRUE((*target)->token_rows({&token, 1}, embedding.data()));
  EXPECT_EQ(head, embedding);
}

TEST(TargetWeights, RefusalsNameWhatIsMissing) {
  EXPECT_NE(refusal({.without_tensor = "blk.5.attn_q.weight"}).find("blk.5.attn_q.weight"),
            std::string::npos);
  EXPECT_NE(refusal({.without_tensor = "blk.5.ffn_gate.weight"}).find("blk.5.ffn_gate.weight"),
            std::string::npos);
  EXPECT_NE(refusal({.experts = 4}).find("blk.5.ffn_gate.weight"), std::string::npos);
  EXPECT_NE(refusal({.without_key = "llama.attention.layer_norm_rms_epsilon"})
                .find("attention.layer_norm_rms_epsilon"),
            std::string::npos);
  const TempFile file("text.gguf");
  std::ofstream(file.path()) << "not a model";
  EXPECT_EQ(TargetWeights::open(file.path()).status().code(), StatusCode::kInvalid);
  EXPECT_EQ(TargetWeights::open(file.path() + ".none").status().code(), StatusCode::kNotFound);
}

TEST(TargetWeights, InitialDraftWantsARisingVocabulary) {
  const TempFile file("vocab.gguf");
  write_tiny_target(file.path(), {});
  auto target = TargetWeights::open(file.path());
  ASSERT_TRUE(target);
  const int64_t falling[] = {4, 3};
  const int64_t outside[] = {3, kTinyVocab};
  EXPECT_FALSE((*target)->initial_draft({}));
  EXPECT_FALSE((*target)->initial_draft(falling));
  EXPECT_FALSE((*target)->initial_draft(outside));
}

// fc passes the input of the last layer through, and the draft is that layer: its logits at row t
// must be the target's own. Wrong rope order, norm, tap or head row would show.
float worst_difference(const std::string& target_path, std::span<const int32_t> tokens) {
  auto target = TargetWeights::open(target_path);
  EXPECT_TRUE(target) << target.status().to_string();
  const int vocab = (*target)->shape().target_vocab;
  auto weights = (*target)->initial_draft(whole_vocab(vocab));
  EXPECT_TRUE(weights) << weights.status().to_string();
  const TempFile draft("initial.gguf");
  const Status written = write_draft_file(draft.path(), *weights, target_path, DraftDtype::kF32);
  EXPECT_TRUE(written) << written.to_string();
  auto llama = LlamaDraft::open(target_path, draft.path(), {.kv_f32 = true});
  EXPECT_TRUE(llama) << llama.status().to_string();
  auto rows = (*llama)->run_target(tokens);
  EXPECT_TRUE(rows) << rows.status().to_string();
  const int last = static_cast<int>(tokens.size()) - 2;
  auto steps = (*llama)->draft(rows->taps, tokens, last, 2);
  EXPECT_TRUE(steps) << steps.status().to_string();
  float worst = 0;
  for (int v = 0; v < vocab; ++v) {
    const float expected = rows->logits[static_cast<size_t>(last) * vocab + v];
    worst = std::max(worst, std::abs(steps->logits[0][v] - expected));
    EXPECT_TRUE(std::isfinite(steps->logits[1][v]));
  }
  return worst;
}

class InitialDraft : public testing::TestWithParam<const char*> {};

TEST_P(InitialDraft, IsTheTargetsLastLayer) {
  const TempFile file("initial-target.gguf");
  write_tiny_target(file.path(), {.architecture = GetParam(), .tied = false});
  std::vector<int32_t> tokens(24);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 37 % 256);
  // Logits are of size 10: fp32 sums in another order.
  EXPECT_LT(worst_difference(file.path(), tokens), 2e-3f);
}

INSTANTIATE_TEST_SUITE_P(Rope, InitialDraft, testing::Values("llama", "qwen2"));

// With a real model: AURORA_TEST_TARGET names a GGUF without attention biases. llama.cpp multiplies
// its quantised weights by 8-bit activations, our dequantised ones by fp32: hence the wide
// tolerance.
TEST(InitialDraftOfARealTarget, IsNearTheTargetsLastLayer) {
  const char* path = std::getenv("AURORA_TEST_TARGET");
  if (path == nullptr) GTEST_SKIP() << "AURORA_TEST_TARGET names no model";
  std::vector<int32_t> tokens(40);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(1000 + i * 53 % 900);
  EXPECT_LT(worst_difference(path, tokens), 1.0f);
}

}  // namespace
}  // namespace aurora
