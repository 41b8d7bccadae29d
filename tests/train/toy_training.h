// Toys for the trainer's tests: a small random draft, rows of a target that does not exist, and
// records of a language that can be learnt (each token fixes the next).
#pragma once

#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "trace/record.h"
#include "train/learner.h"
#include "train/packed_batch.h"

namespace aurora {

inline constexpr int kToyVocab = 40;

inline DraftShape toy_shape() {
  DraftShape shape;
  shape.hidden = 8;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 4;
  shape.ff = 12;
  shape.context = 64;
  shape.target_vocab = kToyVocab;
  shape.target_layers = 6;
  shape.tap_layers[0] = 2, shape.tap_layers[1] = 3, shape.tap_layers[2] = 5;
  return shape;
}

inline std::vector<int64_t> all_columns(const PackedBatch& batch) {
  std::vector<int64_t> columns(static_cast<size_t>(batch.queries));
  std::iota(columns.begin(), columns.end(), 0);
  return columns;
}

// Values of `seed` and `row`: the same for embedding and head, as in a tied target.
class ToyRows final : public TargetRows {
 public:
  explicit ToyRows(int hidden = 8) : hidden_(hidden) {}
  Status token_rows(std::span<const int32_t> ids, float* out) const override {
    for (int32_t id : ids) out = write(id, out);
    return Status::ok();
  }
  Status head_rows(std::span<const int64_t> ids, float* out) const override {
    for (int64_t id : ids) out = write(id, out);
    return Status::ok();
  }

 private:
  float* write(int64_t id, float* out) const {
    std::mt19937 rng(static_cast<uint32_t>(id) + 1000);
    std::normal_distribution<float> normal;
    for (int i = 0; i < hidden_; ++i) *out++ = normal(rng);
    return out;
  }
  const int hidden_;
};

inline DraftWeights toy_draft(const DraftShape& shape, std::vector<int64_t> d2t, uint32_t seed) {
  std::mt19937 rng(seed);
  const auto fill = [&rng](std::vector<float>& out, int rows, int cols, float mean, float spread) {
    std::normal_distribution<float> normal(mean, spread);
    out.resize(static_cast<size_t>(rows) * static_cast<size_t>(cols));
    for (float& x : out) x = normal(rng);
  };
  DraftWeights w;
  w.shape = shape;
  const int d = shape.hidden, q = shape.heads * shape.head_dim,
            kv = shape.kv_heads * shape.head_dim;
  fill(w.fc, d, 3 * d, 0, 0.3f);
  for (auto* norm : {&w.attn_norm, &w.hidden_norm, &w.ffn_norm, &w.output_norm})
    fill(*norm, d, 1, 1, 0.1f);
  fill(w.wq, q, 2 * d, 0, 0.3f);
  fill(w.wk, kv, 2 * d, 0, 0.3f);
  fill(w.wv, kv, 2 * d, 0, 0.3f);
  fill(w.wo, d, q, 0, 0.3f);
  fill(w.gate, shape.ff, d, 0, 0.3f);
  fill(w.up, shape.ff, d, 0, 0.3f);
  fill(w.down, d, shape.ff, 0, 0.3f);
  fill(w.output, static_cast<int>(d2t.size()), d, 0, 0.3f);
  w.d2t = std::move(d2t);
  return w;
}

inline std::vector<int64_t> first_ids(int count) {
  std::vector<int64_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back(i);
  return ids;
}

struct ToyRecord {
  uint64_t id = 1;
  int prompt_tokens = 5;
  int served_tokens = 7;
  int law_k = 4;
};

// x_{t+1} = (3 x_t + 1) mod kToyVocab; the law gives it 0.9. Taps: random, of x_t alone, in fp16's
// range.
inline TraceRecord toy_record(const ToyRecord& options) {
  std::mt19937 rng(static_cast<uint32_t>(options.id));
  TraceRecord r;
  r.id = options.id;
  r.target = "toy";
  r.hidden = 8;
  const DraftShape shape = toy_shape();
  for (int i = 0; i < kTapCount; ++i) r.tap_layers[i] = shape.tap_layers[i];
  r.prompt_tokens = options.prompt_tokens;
  r.tokens.push_back(static_cast<int32_t>(rng() % kToyVocab));
  const int length = options.prompt_tokens + options.served_tokens;
  while (static_cast<int>(r.tokens.size()) < length)
    r.tokens.push_back((3 * r.tokens.back() + 1) % kToyVocab);
  for (int t = 0; t < r.rows(); ++t) {
    std::mt19937 of_token(static_cast<uint32_t>(r.tokens[static_cast<size_t>(t)]));
    for (int i = 0; i < kTapCount * r.hidden; ++i)
      r.taps.push_back(
          static_cast<uint16_t>(0x3400u + (of_token() & 0x8BFFu)));  // 0.25 ... 0.5, +-
  }
  r.laws.k = options.law_k;
  for (int i = 0; i < options.served_tokens; ++i) {
    const int32_t next = r.tokens[static_cast<size_t>(r.prompt_tokens + i)];
    for (int j = 0; j < options.law_k; ++j) {
      r.laws.ids.push_back((next + 7 * j) % kToyVocab);
      r.laws.logprobs.push_back(j == 0 ? std::log(0.9f) : std::log(0.02f));
    }
  }
  r.target_steps = options.served_tokens;
  return r;
}

// A verify step at `first` whose leading `accepted` tokens were served and whose `refused` ones
// were not: their taps are of the token, their law gives the token's successor 0.8. Steps in rising
// order.
struct ToyStep {
  int first = 0;
  int accepted = 0;
  std::vector<int32_t> refused = {};
  int64_t draft_version = 1;
};

inline void add_step(TraceRecord& r, const ToyStep& toy) {
  VerifyStep step;
  step.first = toy.first;
  step.draft_version = toy.draft_version;
  step.accepted = static_cast<uint16_t>(toy.accepted);
  for (int i = 0; i < toy.accepted; ++i)
    step.drafted.push_back(r.tokens[static_cast<size_t>(toy.first + i)]);
  r.refused_laws.k = r.laws.k;
  for (size_t i = 0; i < toy.refused.size(); ++i) {
    const int32_t token = toy.refused[i];
    step.drafted.push_back(token);
    r.refused.push_back({static_cast<int32_t>(r.steps.size()),
                         toy.first + toy.accepted + static_cast<int32_t>(i), token});
    std::mt19937 rng(static_cast<uint32_t>(token) + 77);
    for (int j = 0; j < kTapCount * r.hidden; ++j)
      r.refused_taps.push_back(static_cast<uint16_t>(0x3400u + (rng() & 0x8BFFu)));
    for (int j = 0; j < r.laws.k; ++j) {
      r.refused_laws.ids.push_back((3 * token + 1 + 5 * j) % kToyVocab);
      r.refused_laws.logprobs.push_back(j == 0 ? std::log(0.8f) : std::log(0.03f));
    }
  }
  step.draft_probs.assign(step.drafted.size(), 0.5f);
  r.steps.push_back(std::move(step));
}

}  // namespace aurora
