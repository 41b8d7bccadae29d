// The trainer's forward and llama.cpp's eagle3 graph give the same logits for the same rows, steps
// 0 ... K-1, along the path and along a branch: on toy targets of both RoPE kinds always, on a real
// one where AURORA_TEST_TARGET names its file. Tolerance, of the largest absolute logit: 2e-4. Both
// sides compute in fp32 with an F32 draft file and an F32 KV cache; products are summed in another
// order, and llama.cpp's RoPE angles are fp32 products.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "draft/draft_file.h"
#include "train/draft_start.h"
#include "train/eagle3_forward.h"
#include "train/llama_draft.h"
#include "train/target_weights.h"
#include "train/temp_file.h"
#include "train/tiny_target.h"
#include "train/trainer_parts.h"

namespace aurora {
namespace {

constexpr int kSteps = 4;

// The start from the target, every matrix shaken: a start has zeros where mistakes could hide.
DraftWeights shaken_draft(const TargetWeights& target, int vocab, int mlp) {
  std::vector<int64_t> d2t;
  for (int64_t i = 0; i < vocab; ++i) d2t.push_back(i * target.shape().target_vocab / vocab);
  DraftWeights draft = std::move(*target.initial_draft(d2t));
  if (mlp > 0) resize_mlp(draft, mlp, 1);
  std::mt19937 rng(11);
  for (std::vector<float>* w : draft_arrays(draft)) {
    double squares = 0;
    for (float x : *w) squares += double{x} * double{x};
    std::normal_distribution<float> noise(
        0, 0.3f * static_cast<float>(std::sqrt(squares / static_cast<double>(w->size()))));
    for (float& x : *w) x += noise(rng);
  }
  return draft;
}

std::vector<uint16_t> to_half(std::span<const float> values, size_t count) {
  const at::Tensor half =
      at::from_blob(const_cast<float*>(values.data()), {static_cast<int64_t>(count)}, at::kFloat)
          .to(at::kHalf);
  const auto* bits = static_cast<const uint16_t*>(half.data_ptr());
  return {bits, bits + count};
}

// The request the target would have left behind: prompt of P tokens, rows with taps, no laws
// needed.
TraceRecord as_record(const std::vector<int32_t>& tokens, const std::vector<float>& taps,
                      int hidden, int prompt_tokens) {
  TraceRecord r;
  r.hidden = hidden;
  r.prompt_tokens = prompt_tokens;
  r.tokens = tokens;
  r.taps = to_half(taps, static_cast<size_t>(r.rows()) * 3 * static_cast<size_t>(hidden));
  r.laws.k = 1;
  r.laws.ids.assign(static_cast<size_t>(r.served_tokens()), 0);
  r.laws.logprobs.assign(static_cast<size_t>(r.served_tokens()), 0.0f);
  return r;
}

std::vector<float> to_floats(const std::vector<uint16_t>& taps) {
  std::vector<float> out;
  for (uint16_t bits : taps) out.push_back(half_to_float(bits));
  return out;
}

// Behind row t the target saw `refused` instead of x_{t+1} ...: the rows it computed for them.
void refuse(TraceRecord& r, LlamaDraft& llama, int t, const std::vector<int32_t>& refused) {
  std::vector<int32_t> seen(r.tokens.begin(), r.tokens.begin() + t + 1);
  seen.insert(seen.end(), refused.begin(), refused.end());
  auto rows = llama.run_target(seen);
  EXPECT_TRUE(rows.is_ok());
  const size_t width = static_cast<size_t>(3 * r.hidden);
  const std::span<const float> behind =
      std::span<const float>(rows->taps).subspan(static_cast<size_t>(t + 1) * width);
  r.refused_taps = to_half(behind, refused.size() * width);
  r.steps.push_back({.first = t + 1, .draft_version = 1, .drafted = refused, .draft_probs = {}});
  for (size_t i = 0; i < refused.size(); ++i)
    r.refused.push_back({0, t + 1 + static_cast<int32_t>(i), refused[i]});
  r.refused_laws.k = 1;
  r.refused_laws.ids.assign(refused.size(), 0);
  r.refused_laws.logprobs.assign(refused.size(), 0.0f);
}

struct Difference {
  double absolute = 0, largest = 0;
  void add(const at::Tensor& state, const at::Tensor& head, const std::vector<float>& expected) {
    const at::Tensor logits = at::linear(state, head).contiguous();
    const auto* ours = logits.data_ptr<float>();
    for (size_t v = 0; v < expected.size(); ++v) {
      absolute = std::max(absolute, std::abs(double{ours[v]} - double{expected[v]}));
      largest = std::max(largest, std::abs(double{ours[v]}));
    }
  }
};

using States = std::vector<at::Tensor>;

// Columns of the path, every third.
void compare_path(LlamaDraft& llama, const TraceRecord& r, const PackedBatch& batch,
                  const States& states, const at::Tensor& head, Difference& difference) {
  const std::vector<float> taps = to_floats(r.taps);  // what the record kept of them
  for (int i = 0; i + kSteps < batch.path_queries(); i += 3) {
    const int position = r.prompt_tokens - 1 + i;
    const std::span<const int32_t> forced(r.tokens.data() + position + 2, kSteps - 1);
    auto expected = llama.draft(taps, r.tokens, position, kSteps, forced);
    ASSERT_TRUE(expected.is_ok()) << expected.status().to_string();
    for (size_t k = 0; k < kSteps; ++k) difference.add(states[k][i], head, expected->logits[k]);
  }
}

// Every node of the one branch at row t: llama.cpp drafts as if the refused tokens had been served.
void compare_branch(LlamaDraft& llama, const TraceRecord& r, int t, const PackedBatch& batch,
                    const States& states, const at::Tensor& head, Difference& difference) {
  const size_t width = static_cast<size_t>(3 * r.hidden);
  std::vector<float> taps = to_floats(r.taps);
  taps.resize(static_cast<size_t>(t + 1) * width);
  const std::vector<float> behind = to_floats(r.refused_taps);
  taps.insert(taps.end(), behind.begin(), behind.end());
  std::vector<int32_t> tokens(r.tokens.begin(), r.tokens.begin() + t + 1);
  for (const RefusedRow& row : r.refused) tokens.push_back(row.token);
  for (int node = 0; node < batch.nodes; ++node) {
    const int left = batch.nodes - node;  // labels of the node's column
    const std::span<const int32_t> forced =
        std::span<const int32_t>(tokens).subspan(static_cast<size_t>(t + node + 2));
    auto expected = llama.draft(taps, tokens, t + node, left, forced);
    ASSERT_TRUE(expected.is_ok()) << expected.status().to_string();
    for (size_t k = 0; k < static_cast<size_t>(left); ++k)
      difference.add(states[k][batch.path_queries() + node], head, expected->logits[k]);
  }
}

// Largest difference over the largest logit, all columns and steps.
double compare(const std::string& target_path, int vocab, const std::vector<int32_t>& tokens,
               int mlp = 0) {
  auto target = TargetWeights::open(target_path);
  EXPECT_TRUE(target.is_ok());
  const DraftWeights draft = shaken_draft(**target, vocab, mlp);
  const TempFile file("parity-" + std::to_string((*target)->shape().hidden) + ".gguf");
  EXPECT_TRUE(write_draft_file(file.path(), draft, target_path, DraftDtype::kF32).is_ok());
  auto llama =
      LlamaDraft::open(target_path, file.path(), {.threads = 1, .context = 512, .kv_f32 = true});
  EXPECT_TRUE(llama.is_ok()) << llama.status().to_string();
  auto rows = (*llama)->run_target(tokens);
  EXPECT_TRUE(rows.is_ok());

  const int prompt = static_cast<int>(tokens.size()) / 2, fork = prompt + 4;
  TraceRecord record = as_record(tokens, rows->taps, draft.shape.hidden, prompt);
  refuse(record, **llama, fork, {tokens[3], tokens[1], tokens[7]});
  const TraceRecord* records[] = {&record};
  const RowsOfTarget of_target(**target);
  PackOptions options;
  options.steps = kSteps;
  options.branches = [](const TraceRecord& r) { return branch_nodes(r, 0); };
  auto batch = pack(records, index_vocab(draft.d2t), of_target, options);
  EXPECT_TRUE(batch.is_ok());
  const at::NoGradGuard no_grad;
  const Eagle3 eagle = eagle3_from(draft, at::kFloat);
  const States states =
      eagle3_forward(eagle, *batch, to_tensors(*batch, draft.shape, at::kFloat), kSteps);
  Difference path, branch;
  compare_path(**llama, record, *batch, states, eagle[kOutput], path);
  compare_branch(**llama, record, fork, *batch, states, eagle[kOutput], branch);
  EXPECT_GT(std::min(path.largest, branch.largest), 0.1);
  return std::max(path.absolute / path.largest, branch.absolute / branch.largest);
}

std::vector<int32_t> random_tokens(int count, int vocab) {
  std::mt19937 rng(12);
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab)));
  return tokens;
}

TEST(Parity, TinyTargetsOfBothRopeKinds) {
  for (const char* architecture : {"llama", "qwen2"}) {
    TinyTarget tiny;
    tiny.architecture = architecture;
    const TempFile file(std::string("tiny-") + architecture + ".gguf");
    write_tiny_target(file.path(), tiny);
    const auto tokens = random_tokens(60, kTinyVocab);
    EXPECT_LT(compare(file.path(), 100, tokens), 2e-4) << architecture;
    EXPECT_LT(compare(file.path(), 100, tokens, 2 * tiny.ff), 2e-4) << architecture;
  }
}

TEST(Parity, RealTarget) {
  const char* path = std::getenv("AURORA_TEST_TARGET");
  if (!path) GTEST_SKIP() << "AURORA_TEST_TARGET names no GGUF";
  const double difference = compare(path, 2048, random_tokens(120, 10000));
  RecordProperty("relative_difference", std::to_string(difference));
  EXPECT_LT(difference, 2e-4);
}

}  // namespace
}  // namespace aurora
