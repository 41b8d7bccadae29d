// The draft's forward against an independent one in plain loops, and its gradient against finite
// differences.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "train/eagle3_forward.h"
#include "train/head_loss.h"
#include "train/toy_training.h"

namespace aurora {
namespace {

using Vec = std::vector<double>;

Vec mul(const std::vector<float>& w, const Vec& x) {
  Vec out(w.size() / x.size(), 0.0);
  for (size_t r = 0; r < out.size(); ++r)
    for (size_t c = 0; c < x.size(); ++c) out[r] += double{w[r * x.size() + c]} * x[c];
  return out;
}

Vec rms(const Vec& x, const std::vector<float>& w, double eps) {
  double mean = 0;
  for (double v : x) mean += v * v / static_cast<double>(x.size());
  Vec out;
  for (size_t i = 0; i < x.size(); ++i) out.push_back(x[i] / std::sqrt(mean + eps) * double{w[i]});
  return out;
}

void turn(Vec& x, int head_dim, double base, int position) {
  for (size_t i = 0; i < x.size(); i += 2) {
    const auto pair = static_cast<double>(i % static_cast<size_t>(head_dim));
    const double angle = position * std::pow(base, -pair / head_dim);
    const double a = x[i], b = x[i + 1];
    x[i] = a * std::cos(angle) - b * std::sin(angle);
    x[i + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
}

// One (token, state) pair through the layer behind the cache of keys and values it may see; its own
// entry is added.
struct Reference {
  const DraftWeights& w;
  struct Cache {
    std::vector<Vec> k, v;
  };

  Vec fuse(const TraceRecord& r, int t) const {
    Vec a;
    for (int i = 0; i < 3 * r.hidden; ++i)
      a.push_back(half_to_float(r.taps[static_cast<size_t>(t * 3 * r.hidden + i)]));
    return mul(w.fc, a);
  }

  Vec step(int32_t token, const Vec& g, int position, Cache& cache) const {
    const DraftShape& s = w.shape;
    std::vector<float> row(static_cast<size_t>(s.hidden));
    EXPECT_TRUE(ToyRows(s.hidden).token_rows({&token, 1}, row.data()).is_ok());
    Vec z = rms(Vec(row.begin(), row.end()), w.attn_norm, s.rms_eps);
    const Vec zg = rms(g, w.hidden_norm, s.rms_eps);
    z.insert(z.end(), zg.begin(), zg.end());
    Vec q = mul(w.wq, z), k = mul(w.wk, z);
    turn(q, s.head_dim, s.rope_base, position);
    turn(k, s.head_dim, s.rope_base, position);
    cache.k.push_back(k);
    cache.v.push_back(mul(w.wv, z));
    Vec h = mul(w.wo, attend(q, cache));
    for (size_t i = 0; i < h.size(); ++i) h[i] += g[i];
    const Vec u = rms(h, w.ffn_norm, s.rms_eps);
    Vec gate = mul(w.gate, u);
    const Vec up = mul(w.up, u);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    const Vec down = mul(w.down, gate);
    for (size_t i = 0; i < h.size(); ++i) h[i] += down[i];
    return h;
  }

  Vec attend(const Vec& q, const Cache& cache) const {
    const auto dim = static_cast<size_t>(w.shape.head_dim);
    const size_t group = static_cast<size_t>(w.shape.heads / w.shape.kv_heads);
    Vec out(q.size(), 0.0);
    for (size_t head = 0; head < static_cast<size_t>(w.shape.heads); ++head) {
      Vec weight;
      double sum = 0;
      for (const Vec& k : cache.k) {
        double dot = 0;
        for (size_t i = 0; i < dim; ++i) dot += q[head * dim + i] * k[head / group * dim + i];
        weight.push_back(std::exp(dot / std::sqrt(static_cast<double>(dim))));
        sum += weight.back();
      }
      for (size_t j = 0; j < weight.size(); ++j)
        for (size_t i = 0; i < dim; ++i)
          out[head * dim + i] += weight[j] / sum * cache.v[j][head / group * dim + i];
    }
    return out;
  }

  // Normed states of steps 0 ... steps-1 at column t.
  std::vector<Vec> column(const TraceRecord& r, int t, int steps) const {
    Cache cache;
    Vec g;
    for (int j = 0; j <= t; ++j) {
      const Vec fused = fuse(r, j);
      g = step(r.tokens[static_cast<size_t>(j + 1)], fused, j, cache);
    }
    std::vector<Vec> out = {rms(g, w.output_norm, w.shape.rms_eps)};
    for (int k = 1; k < steps && t + 1 + k < static_cast<int>(r.tokens.size()); ++k) {
      g = step(r.tokens[static_cast<size_t>(t + 1 + k)], g, t + k, cache);
      out.push_back(rms(g, w.output_norm, w.shape.rms_eps));
    }
    return out;
  }
};

struct Packed {
  PackedBatch batch;
  BatchTensors tensors;
};

Packed pack_double(const std::vector<TraceRecord>& records, const DraftWeights& w, int steps) {
  std::vector<const TraceRecord*> refs;
  for (const TraceRecord& r : records) refs.push_back(&r);
  auto batch = pack(refs, index_vocab(w.d2t), ToyRows(w.shape.hidden), {.steps = steps});
  EXPECT_TRUE(batch.is_ok());
  Packed out = {std::move(*batch), {}};
  out.tensors = to_tensors(out.batch, w.shape, at::kDouble);
  return out;
}

std::vector<TraceRecord> three_records() {
  return {toy_record({.id = 1, .prompt_tokens = 5, .served_tokens = 7}),
          toy_record({.id = 2, .prompt_tokens = 1, .served_tokens = 3}),
          toy_record({.id = 3, .prompt_tokens = 9, .served_tokens = 2})};
}

// Tolerance: both are float64, so only the order of additions differs; the norm of the embedding is
// taken in float64.
TEST(Eagle3, ForwardIsThatOfPlainLoopsForEverySampleOfAPackedBatch) {
  const DraftWeights w = toy_draft(toy_shape(), first_ids(kToyVocab), 3);
  const std::vector<TraceRecord> records = three_records();
  const Packed packed = pack_double(records, w, 4);
  const auto states = eagle3_forward(eagle3_from(w, at::kDouble), packed.batch, packed.tensors, 4);
  const Reference reference = {w};
  for (size_t r = 0; r < records.size(); ++r) {
    const PackedRequest& request = packed.batch.requests[r];
    for (int i = 0; i < request.queries; ++i) {
      const auto expected = reference.column(records[r], records[r].prompt_tokens - 1 + i, 4);
      for (size_t k = 0; k < expected.size(); ++k)
        for (int c = 0; c < w.shape.hidden; ++c)
          EXPECT_NEAR(states[k][request.query0 + i][c].item<double>(),
                      expected[k][static_cast<size_t>(c)], 1e-9)
              << "request " << r << " column " << i << " step " << k;
    }
  }
}

struct Loss {
  HeadLoss head;
  at::Tensor states, grad_head;
};

double loss_of(const Eagle3& draft, const Packed& packed, Loss* out) {
  const auto objective = make_objective(ObjectiveKind::kForwardKl);
  const std::vector<int64_t> columns = all_columns(packed.batch);
  const LossTerm term = {*objective,
                         counting_rows(packed.batch, {0, 3, columns}, {.step_decay = 0.8},
                                       objective->needs(), at::kDouble)};
  out->states = at::cat(eagle3_forward(draft, packed.batch, packed.tensors, 3), 0)
                    .index_select(0, term.rows.index);
  out->grad_head = at::zeros_like(draft[kOutput]);
  out->head = head_loss({&term, 1}, out->states.detach(), draft[kOutput], out->grad_head);
  return out->head.loss;
}

// Central differences, h = 1e-5, float64: error about 1e-9.
TEST(Eagle3, GradientIsThatOfFiniteDifferences) {
  const DraftWeights w = toy_draft(toy_shape(), {0, 1, 2, 5, 7, 11, 12, 20, 22, 30, 31, 39}, 4);
  const Packed packed = pack_double(three_records(), w, 3);
  Eagle3 draft = eagle3_from(w, at::kDouble);
  draft.context_grad = true;
  for (size_t i = 0; i < kTensorCount; ++i)
    if (i != kOutput) draft.p[i].set_requires_grad(true);
  Loss loss;
  loss_of(draft, packed, &loss);
  torch::autograd::backward({loss.states}, {loss.head.grad_states});
  const at::NoGradGuard no_grad;
  std::mt19937 rng(5);
  for (size_t i = 0; i < kTensorCount; ++i) {
    const at::Tensor grad = i == kOutput ? loss.grad_head : draft.p[i].grad();
    for (int sample = 0; sample < 12; ++sample) {
      const int64_t at_index = static_cast<int64_t>(rng()) % draft.p[i].numel();
      double* value = draft.p[i].data_ptr<double>() + at_index;
      const double kept = *value, h = 1e-5;
      Loss ignored;
      *value = kept + h;
      const double above = loss_of(draft, packed, &ignored);
      *value = kept - h;
      const double below = loss_of(draft, packed, &ignored);
      *value = kept;
      const double expected = (above - below) / (2 * h);
      EXPECT_NEAR(grad.reshape(-1)[at_index].item<double>(), expected,
                  1e-8 + 1e-6 * std::abs(expected))
          << "tensor " << i << " entry " << at_index;
    }
  }
}

}  // namespace
}  // namespace aurora
