#include "draft/draft_file.h"

#include <gguf.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "draft/gguf_file.h"
#include "train/llama_draft.h"
#include "train/target_weights.h"
#include "train/temp_file.h"
#include "train/tiny_target.h"

namespace aurora {
namespace {

class DraftFile : public testing::Test {
 protected:
  void SetUp() override {
    write_tiny_target(target_.path(), {});
    auto target = TargetWeights::open(target_.path());
    ASSERT_TRUE(target) << target.status().to_string();
    const std::vector<int64_t> vocab = {0, 3, 32, 97, 98, 99, 200, 257};
    auto draft = (*target)->initial_draft(vocab);
    ASSERT_TRUE(draft) << draft.status().to_string();
    draft_ = *draft;
  }

  Status write(DraftDtype dtype = DraftDtype::kF32) {
    return write_draft_file(file_.path(), draft_, target_.path(), dtype);
  }

  const TempFile target_{"target.gguf"};
  const TempFile file_{"draft.gguf"};
  DraftWeights draft_;
};

constexpr std::vector<float> DraftWeights::*kFields[] = {
    &DraftWeights::fc,    &DraftWeights::attn_norm, &DraftWeights::hidden_norm,
    &DraftWeights::wq,    &DraftWeights::wk,        &DraftWeights::wv,
    &DraftWeights::wo,    &DraftWeights::ffn_norm,  &DraftWeights::gate,
    &DraftWeights::up,    &DraftWeights::down,      &DraftWeights::output_norm,
    &DraftWeights::output};

float worst(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<float>::infinity();
  float out = 0;
  for (size_t i = 0; i < a.size(); ++i) out = std::max(out, std::abs(a[i] - b[i]));
  return out;
}

TEST_F(DraftFile, F32ReadsBackAsWritten) {
  ASSERT_TRUE(write());
  auto back = read_draft_file(file_.path());
  ASSERT_TRUE(back) << back.status().to_string();
  EXPECT_EQ(back->d2t, draft_.d2t);
  for (const auto field : kFields) EXPECT_EQ((*back).*field, draft_.*field);
  const DraftShape& a = back->shape;
  const DraftShape& b = draft_.shape;
  EXPECT_EQ(a.hidden, b.hidden);
  EXPECT_EQ(a.heads, b.heads);
  EXPECT_EQ(a.kv_heads, b.kv_heads);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.ff, b.ff);
  EXPECT_EQ(a.context, b.context);
  EXPECT_EQ(a.target_vocab, b.target_vocab);
  EXPECT_EQ(a.target_layers, b.target_layers);
  EXPECT_EQ(a.rms_eps, b.rms_eps);
  EXPECT_EQ(a.rope_base, b.rope_base);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(a.tap_layers[i], b.tap_layers[i]);
}

TEST_F(DraftFile, SmallerTypesStayNear) {
  const auto norm_is_exact = [&](const DraftWeights& back) {
    return back.attn_norm == draft_.attn_norm && back.output_norm == draft_.output_norm;
  };
  ASSERT_TRUE(write(DraftDtype::kF16));
  const auto f16_bytes = std::filesystem::file_size(file_.path());
  auto back = read_draft_file(file_.path());
  ASSERT_TRUE(back);
  EXPECT_EQ(back->d2t, draft_.d2t);
  EXPECT_TRUE(norm_is_exact(*back));
  for (const auto field : kFields) EXPECT_LT(worst((*back).*field, draft_.*field), 3e-4f);

  ASSERT_TRUE(write(DraftDtype::kQ8_0));
  EXPECT_LT(std::filesystem::file_size(file_.path()), f16_bytes);
  back = read_draft_file(file_.path());
  ASSERT_TRUE(back);
  EXPECT_TRUE(norm_is_exact(*back));
  // Half a step of 127 in a block whose largest value is about 1 (fc) or 0.25.
  for (const auto field : kFields) EXPECT_LT(worst((*back).*field, draft_.*field), 1e-2f);
}

TEST_F(DraftFile, TokenizerIsTheTargets) {
  ASSERT_TRUE(write());
  auto draft = GgufFile::open(file_.path());
  auto target = GgufFile::open(target_.path());
  ASSERT_TRUE(draft && target);
  int copied = 0;
  for (int64_t i = 0; i < gguf_get_n_kv((*target)->meta()); ++i) {
    const std::string key = gguf_get_key((*target)->meta(), i);
    if (!key.starts_with("tokenizer.")) continue;
    ++copied;
    EXPECT_TRUE((*draft)->has(key)) << key;
  }
  EXPECT_GE(copied, 6);
  EXPECT_EQ((*draft)->array_size("tokenizer.ggml.tokens"), static_cast<size_t>(kTinyVocab));
  EXPECT_FALSE((*draft)->has("llama.block_count"));
  EXPECT_EQ(*(*draft)->text("general.architecture"), "eagle3");
}

TEST_F(DraftFile, LoadsInLlamaCppWithFiniteLogits) {
  const std::vector<int32_t> tokens = {256, 72, 105, 32, 97, 98, 99, 10};
  std::vector<std::vector<float>> first;
  for (const auto dtype : {DraftDtype::kF32, DraftDtype::kF16, DraftDtype::kQ8_0}) {
    ASSERT_TRUE(write(dtype));
    auto llama = LlamaDraft::open(target_.path(), file_.path(), {});
    ASSERT_TRUE(llama) << llama.status().to_string();
    auto rows = (*llama)->run_target(tokens);
    ASSERT_TRUE(rows) << rows.status().to_string();
    auto steps = (*llama)->draft(rows->taps, tokens, 5, 3);
    ASSERT_TRUE(steps) << steps.status().to_string();
    ASSERT_EQ(steps->logits.size(), 3u);
    for (const auto& logits : steps->logits) {
      ASSERT_EQ(logits.size(), draft_.d2t.size());
      for (const float logit : logits) EXPECT_TRUE(std::isfinite(logit));
    }
    EXPECT_EQ(steps->tokens[0], 99);
    // Teacher forcing with the tokens that greedy drafting chose gives the same logits.
    auto forced = (*llama)->draft(rows->taps, tokens, 5, 3, std::span(steps->tokens).subspan(1));
    ASSERT_TRUE(forced);
    EXPECT_EQ(forced->logits, steps->logits);
    first.push_back(steps->logits[0]);
  }
  EXPECT_LT(worst(first[0], first[1]), 0.02f);
  EXPECT_LT(worst(first[0], first[2]), 0.3f);
}

TEST_F(DraftFile, RefusesWeightsThatCannotServe) {
  DraftWeights good = draft_;
  draft_.up[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(write().code(), StatusCode::kCorrupt);
  draft_ = good;
  draft_.wk.pop_back();
  EXPECT_EQ(write().code(), StatusCode::kInvalid);
  draft_ = good;
  draft_.d2t.back() = kTinyVocab;
  EXPECT_EQ(write().code(), StatusCode::kCorrupt);
  draft_ = good;
  std::swap(draft_.d2t[0], draft_.d2t[1]);
  EXPECT_EQ(write().code(), StatusCode::kCorrupt);
}

TEST_F(DraftFile, RefusesFilesThatAreNoDraft) {
  EXPECT_NE(read_draft_file(target_.path()).status().message().find("not a draft"),
            std::string::npos);
  EXPECT_EQ(read_draft_file("/nowhere/draft.gguf").status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(write());
  const auto bytes = std::filesystem::file_size(file_.path());
  for (int part = 0; part < 16; ++part) {
    std::filesystem::resize_file(file_.path(), bytes * (15 - part) / 16);
    EXPECT_FALSE(read_draft_file(file_.path())) << part;
  }
}

// A reader of bytes never aborts: whatever byte of the metadata is wrong, the file is read or
// refused.
TEST_F(DraftFile, BrokenMetadataIsReadOrRefused) {
  ASSERT_TRUE(write());
  std::string good;
  {
    std::ostringstream bytes;
    bytes << std::ifstream(file_.path(), std::ios::binary).rdbuf();
    good = bytes.str();
  }
  std::mt19937 rng(5);
  int refused = 0;
  for (int round = 0; round < 400; ++round) {
    std::string bad = good;
    const size_t at = round < 100 ? static_cast<size_t>(round) : rng() % 9000;
    bad[at] = static_cast<char>(rng());
    std::ofstream(file_.path(), std::ios::binary) << bad;
    if (!read_draft_file(file_.path())) ++refused;
  }
  EXPECT_GT(refused, 20);
}

TEST_F(DraftFile, AFullDiskIsAnError) {
  EXPECT_EQ(write_draft_file("/dev/full", draft_, target_.path(), DraftDtype::kF32).code(),
            StatusCode::kIo);
  EXPECT_EQ(write_draft_file("/nowhere/x.gguf", draft_, target_.path(), DraftDtype::kF32).code(),
            StatusCode::kIo);
}

}  // namespace
}  // namespace aurora
