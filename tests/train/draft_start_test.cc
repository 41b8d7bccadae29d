#include "train/draft_start.h"

#include <gtest/gtest.h>

#include "train/toy_training.h"

namespace aurora {
namespace {

// Score of query and key of head 0 that come from the embeddings alone, before RoPE.
double score(const DraftWeights& w, const std::vector<double>& a, const std::vector<double>& b) {
  const size_t d = a.size(), dim = static_cast<size_t>(w.shape.head_dim);
  double dot = 0;
  for (size_t row = 0; row < dim; ++row) {
    double q = 0, k = 0;
    for (size_t i = 0; i < d; ++i) {
      q += double{w.wq[row * 2 * d + i]} * a[i];
      k += double{w.wk[row * 2 * d + i]} * b[i];
    }
    dot += q * k;
  }
  return dot / std::sqrt(static_cast<double>(dim));
}

TEST(DraftStart, AnEntryOfTheSameTokenScoresHigher) {
  DraftShape shape = toy_shape();
  shape.hidden = 256;
  shape.head_dim = 64;
  DraftWeights w = toy_draft(shape, first_ids(4), 1);
  for (auto* matrix : {&w.wq, &w.wk}) std::fill(matrix->begin(), matrix->end(), 0.0f);
  const DraftWeights before = w;
  attend_to_own_token(w, {.score = 12}, 1);
  std::mt19937 rng(2);
  std::normal_distribution<double> normal;
  double same = 0, other = 0;
  for (int i = 0; i < 50; ++i) {
    std::vector<double> a, b;
    for (int j = 0; j < shape.hidden; ++j) {
      a.push_back(normal(rng) * double{w.attn_norm[static_cast<size_t>(j)]});
      b.push_back(normal(rng) * double{w.attn_norm[static_cast<size_t>(j)]});
    }
    same += score(w, a, a) / 50;
    other += score(w, a, b) / 50;
  }
  EXPECT_NEAR(same, 12, 1.5);
  EXPECT_NEAR(other, 0, 1.5);
  EXPECT_EQ(w.fc, before.fc);
  EXPECT_EQ(w.output, before.output);
  for (size_t row = 0; row < 4; ++row)  // the hidden state's half is the target's still
    for (size_t i = 256; i < 512; ++i) EXPECT_EQ(w.wv[row * 512 + i], before.wv[row * 512 + i]);
}

TEST(DraftStart, AWiderMlpSaysTheSame) {
  const DraftWeights before = toy_draft(toy_shape(), first_ids(4), 1);
  DraftWeights wide = before;
  resize_mlp(wide, 32, 1);
  const auto hidden = static_cast<size_t>(before.shape.hidden);
  const auto ff = static_cast<size_t>(before.shape.ff);
  EXPECT_EQ(wide.shape.ff, 32);
  for (const auto field : {&DraftWeights::gate, &DraftWeights::up}) {
    ASSERT_EQ((wide.*field).size(), 32 * hidden);
    EXPECT_TRUE(std::equal((before.*field).begin(), (before.*field).end(), (wide.*field).begin()));
    EXPECT_NE((wide.*field).back(), 0.0f);
  }
  ASSERT_EQ(wide.down.size(), hidden * 32);
  for (size_t row = 0; row < hidden; ++row)
    for (size_t unit = 0; unit < 32; ++unit)
      EXPECT_EQ(wide.down[row * 32 + unit], unit < ff ? before.down[row * ff + unit] : 0.0f);
}

TEST(DraftStart, ANarrowerMlpKeepsTheUnitsThatSayMost) {
  DraftWeights before = toy_draft(toy_shape(), first_ids(4), 1);
  const auto hidden = static_cast<size_t>(before.shape.hidden);
  const auto ff = static_cast<size_t>(before.shape.ff);
  const std::vector<size_t> strong = {1, ff - 2};
  for (const size_t unit : strong)
    for (size_t i = 0; i < hidden; ++i) before.up[unit * hidden + i] *= 100;
  DraftWeights narrow = before;
  resize_mlp(narrow, 2, 1);
  EXPECT_EQ(narrow.shape.ff, 2);
  ASSERT_EQ(narrow.gate.size(), 2 * hidden);
  ASSERT_EQ(narrow.down.size(), 2 * hidden);
  for (size_t unit = 0; unit < 2; ++unit) {
    for (size_t i = 0; i < hidden; ++i) {
      EXPECT_EQ(narrow.gate[unit * hidden + i], before.gate[strong[unit] * hidden + i]);
      EXPECT_EQ(narrow.up[unit * hidden + i], before.up[strong[unit] * hidden + i]);
      EXPECT_EQ(narrow.down[i * 2 + unit], before.down[i * ff + strong[unit]]);
    }
  }
}

TEST(DraftStart, TheSeedFixesTheNumbers) {
  DraftWeights a = toy_draft(toy_shape(), first_ids(4), 1), b = a, c = a;
  attend_to_own_token(a, {}, 1);
  attend_to_own_token(b, {}, 1);
  attend_to_own_token(c, {}, 2);
  EXPECT_EQ(a.wq, b.wq);
  EXPECT_NE(a.wq, c.wq);
  randomise(c, 3);
  EXPECT_NE(a.fc, c.fc);
  EXPECT_EQ(a.output_norm, c.output_norm);
}

}  // namespace
}  // namespace aurora
