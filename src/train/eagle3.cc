#include "train/eagle3.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <cmath>
#include <limits>

namespace aurora {
namespace {

using at::Tensor;

Tensor unit_rms(const Tensor& x, double eps) {
  return x * (x.square().mean(-1, /*keepdim=*/true) + eps).rsqrt();
}

Tensor linear(const Eagle3& draft, const Tensor& x, const Tensor& w) {
  if (!draft.bf16) return at::linear(x, w);
  return at::linear(x.to(at::kBFloat16), w.to(at::kBFloat16)).to(x.scalar_type());
}

struct Rope {
  Tensor cos, sin;  // [n, 1, head_dim / 2]
};

// Angles in float64: at position 2000 a float32 product of powers is off in the fourth digit.
Rope rope_at(const DraftShape& shape, const Tensor& position, at::ScalarType dtype) {
  const int half = shape.head_dim / 2;
  const Tensor exponent = at::arange(half, at::kDouble).mul_(-2.0 / shape.head_dim);
  const Tensor frequency = at::pow(static_cast<double>(shape.rope_base), exponent);
  const Tensor angle = (position.unsqueeze(-1) * frequency).unsqueeze(1);
  return {angle.cos().to(dtype), angle.sin().to(dtype)};
}

// x: [n, heads, head_dim]; pairs (2i, 2i+1) turn together.
Tensor rotate(const Tensor& x, const Rope& rope) {
  const Tensor pairs = x.unflatten(-1, {x.size(-1) / 2, 2});
  const Tensor even = pairs.select(-1, 0), odd = pairs.select(-1, 1);
  return at::stack({even * rope.cos - odd * rope.sin, even * rope.sin + odd * rope.cos}, -1)
      .flatten(-2);
}

struct Heads {
  int64_t kv, group, dim;  // query heads = kv * group
};

// Keys and values of the later steps: one entry a column, seen by that column alone.
struct OwnEntries {
  std::vector<Tensor> k, v;  // per step 1 ... k: [queries, kv, dim]
};

// Entries that belong to single queries: raw products with q, -inf where there is none, [n, kv,
// group, m], and values [n, m, kv, dim]. Undefined: none at all.
struct Own {
  Tensor scores, values;
  Own rows(int64_t begin, int64_t count) const {
    if (!scores.defined()) return {};
    return {scores.narrow(0, begin, count), values.narrow(0, begin, count)};
  }
};

// q: [n, kv, group, dim]; keys: [n, m, kv, dim] -> [n, kv, group, m].
Tensor own_products(const Tensor& q, const Tensor& keys) {
  return (q.unsqueeze(1) * keys.unsqueeze(3)).sum(-1).permute({0, 2, 3, 1});
}

// Keys and values that several queries share: [rows, kv, dim].
struct Shared {
  Tensor k, v;
};

// Queries of one request. q: [n, kv, group, dim]; mask: [n, rows] over the shared entries. Returns
// [n, kv * group * dim].
Tensor attend(const Heads& heads, const Tensor& q, const Shared& entries, const Tensor& mask,
              const Own& own) {
  const Tensor &k = entries.k, &v = entries.v;
  const int64_t n = q.size(0), rows = k.size(0);
  const double scale = 1.0 / std::sqrt(static_cast<double>(heads.dim));
  const Tensor q_by_head = q.permute({1, 2, 0, 3}).reshape({heads.kv, heads.group * n, heads.dim});
  Tensor scores = at::bmm(q_by_head, k.permute({1, 2, 0})).view({heads.kv, heads.group, n, rows});
  scores = scores * scale + mask;
  if (own.scores.defined())
    scores = at::cat({scores, own.scores.permute({1, 2, 0, 3}) * scale}, -1);
  const Tensor probs = scores.softmax(-1);
  const Tensor shared = probs.narrow(-1, 0, rows).reshape({heads.kv, heads.group * n, rows});
  Tensor out = at::bmm(shared, v.permute({1, 0, 2})).view({heads.kv, heads.group, n, heads.dim});
  if (own.scores.defined()) {
    // [kv, group, n, m, 1] * [kv, 1, n, m, dim], summed over the entries.
    const Tensor weights = probs.narrow(-1, rows, own.scores.size(-1)).unsqueeze(-1);
    out = out + (weights * own.values.permute({2, 0, 1, 3}).unsqueeze(1)).sum(-2);
  }
  return out.permute({2, 0, 1, 3}).reshape({n, heads.kv * heads.group * heads.dim});
}

class Forward {
 public:
  Forward(const Eagle3& draft, const PackedBatch& batch, const BatchTensors& tensors)
      : d_(draft),
        batch_(batch),
        t_(tensors),
        heads_{draft.shape.kv_heads, draft.shape.heads / draft.shape.kv_heads,
               draft.shape.head_dim} {}

  std::vector<Tensor> run(int steps) {
    const auto dtype = t_.taps.scalar_type();
    context_entries(dtype);
    std::vector<Tensor> out;
    Tensor state = linear(d_, t_.taps.index_select(0, t_.query_row), d_[kFc]);
    for (int k = 0; k < steps; ++k) {
      const Tensor z = joined(t_.query_embed[static_cast<size_t>(k)], state);
      const Rope rope = rope_at(d_.shape, t_.query_position + k, dtype);
      state = layer(state, z, rope, k);
      out.push_back(unit_rms(state, d_.shape.rms_eps) * d_[kOutputNorm]);
    }
    return out;
  }

 private:
  Tensor joined(const Tensor& embed_index, const Tensor& g) const {
    const Tensor e = t_.embeds.index_select(0, embed_index) * d_[kAttnNorm];
    return at::cat({e, unit_rms(g, d_.shape.rms_eps) * d_[kHiddenNorm]}, -1);
  }

  // Step-0 keys and values of the rows before the supervised ones: no query, no MLP, no head.
  void context_entries(at::ScalarType dtype) {
    if (t_.context_row.size(0) == 0) return;
    const at::AutoGradMode mode(at::GradMode::is_enabled() && d_.context_grad);
    const Tensor g = linear(d_, t_.taps.index_select(0, t_.context_row), d_[kFc]);
    const Tensor z = joined(t_.context_embed, g);
    context_k_ =
        rotate(kv_heads(linear(d_, z, d_[kWk])), rope_at(d_.shape, t_.context_position, dtype));
    context_v_ = kv_heads(linear(d_, z, d_[kWv]));
  }

  Tensor kv_heads(const Tensor& x) const { return x.view({x.size(0), heads_.kv, heads_.dim}); }

  Tensor layer(const Tensor& state, const Tensor& z, const Rope& rope, int k) {
    Tensor q = linear(d_, z, d_[kWq]).view({z.size(0), heads_.kv * heads_.group, heads_.dim});
    q = rotate(q, rope).view({z.size(0), heads_.kv, heads_.group, heads_.dim});
    const Tensor key = rotate(kv_heads(linear(d_, z, d_[kWk])), rope);
    const Tensor value = kv_heads(linear(d_, z, d_[kWv]));
    if (k == 0) {
      k0_ = key;
      v0_ = value;
      if (batch_.nodes > 0) {
        ancestor_k_ = of_ancestors(key);
        ancestor_v_ = of_ancestors(value);
      }
    } else {
      own_.k.push_back(key);
      own_.v.push_back(value);
    }
    const Tensor h = state + linear(d_, attention(q), d_[kWo]);
    const Tensor u = unit_rms(h, d_.shape.rms_eps) * d_[kFfnNorm];
    const Tensor hidden = at::silu(linear(d_, u, d_[kGate])) * linear(d_, u, d_[kUp]);
    return h + linear(d_, hidden, d_[kDown]);
  }

  Tensor attention(const Tensor& q) const {
    const Own later = later_entries(q);
    std::vector<Tensor> parts, node_parts;  // the order of the columns: paths, then nodes
    int64_t context = 0;                    // first context row of the request
    for (size_t i = 0; i < batch_.requests.size(); ++i) {
      const PackedRequest& r = batch_.requests[i];
      const Shared rows = {rows_of(context_k_, context, k0_, r),
                           rows_of(context_v_, context, v0_, r)};
      parts.push_back(attend(heads_, q.narrow(0, r.query0, r.queries), rows, t_.masks[i],
                             later.rows(r.query0, r.queries)));
      if (r.nodes > 0) node_parts.push_back(node_attention(q, rows, i, later));
      context += r.rows - r.queries;
    }
    parts.insert(parts.end(), node_parts.begin(), node_parts.end());
    return at::cat(parts, 0);
  }

  // The later steps of each column, which that column alone sees: the test-time-training diagonal.
  Own later_entries(const Tensor& q) const {
    if (own_.k.empty()) return {};
    return {own_products(q, at::stack(own_.k, 1)), at::stack(own_.v, 1)};
  }

  // Step-0 entries of one request's rows: context, then its supervised columns.
  Tensor rows_of(const Tensor& above, int64_t context, const Tensor& step0,
                 const PackedRequest& r) const {
    const Tensor supervised = step0.narrow(0, r.query0, r.queries);
    const int64_t before = r.rows - r.queries;
    if (before == 0) return supervised;
    return at::cat({above.narrow(0, context, before), supervised}, 0);
  }

  // The nodes of one request: the rows before their fork, the entries of their ancestors and their
  // own, and what each has of the diagonal.
  Tensor node_attention(const Tensor& q, const Shared& rows, size_t i, const Own& later) const {
    const PackedRequest& r = batch_.requests[i];
    const int64_t first = batch_.path_queries() + r.node0;
    const Tensor node_q = q.narrow(0, first, r.nodes);
    const Tensor mask = t_.ancestor_mask.narrow(0, r.node0, r.nodes);
    Own own = {own_products(node_q, ancestor_k_.narrow(0, r.node0, r.nodes)) + mask,
               ancestor_v_.narrow(0, r.node0, r.nodes)};
    if (later.scores.defined()) {
      const Own steps = later.rows(first, r.nodes);
      own = {at::cat({own.scores, steps.scores}, -1), at::cat({own.values, steps.values}, 1)};
    }
    return attend(heads_, node_q, rows, t_.node_masks[i], own);
  }

  // [nodes, depth, kv, dim] of step-0 entries [queries, kv, dim].
  Tensor of_ancestors(const Tensor& step0) const {
    const Tensor nodes = step0.narrow(0, batch_.path_queries(), batch_.nodes);
    return nodes.index_select(0, t_.ancestors.flatten())
        .view({batch_.nodes, t_.ancestors.size(1), heads_.kv, heads_.dim});
  }

  const Eagle3& d_;
  const PackedBatch& batch_;
  const BatchTensors& t_;
  const Heads heads_;
  Tensor context_k_, context_v_;    // [rows before the supervised ones, kv, dim]
  Tensor k0_, v0_;                  // step 0, [queries, kv, dim]
  Tensor ancestor_k_, ancestor_v_;  // step 0, [nodes, depth, kv, dim]
  OwnEntries own_;
};

Tensor floats(const std::vector<float>& values, at::IntArrayRef shape, at::ScalarType dtype) {
  Tensor out = at::empty(shape, at::kFloat);
  std::copy(values.begin(), values.end(), out.data_ptr<float>());
  return out.to(dtype);
}

Tensor longs(const int64_t* values, size_t count) {
  Tensor out = at::empty({static_cast<int64_t>(count)}, at::kLong);
  std::copy_n(values, count, out.data_ptr<int64_t>());
  return out;
}

// Who sees whom among the nodes and before their forks.
void add_tree(const PackedBatch& batch, at::ScalarType dtype, BatchTensors& t) {
  const double hidden = -std::numeric_limits<double>::infinity();
  std::vector<std::vector<int64_t>> lines;  // of each node: itself, its parent, ...
  size_t depth = 0;
  for (int64_t node = 0; node < batch.nodes; ++node) {
    std::vector<int64_t> line = {node};
    const int64_t parent = batch.node_parent[static_cast<size_t>(node)];
    if (parent >= 0) {
      const auto& above = lines[static_cast<size_t>(parent)];
      line.insert(line.end(), above.begin(), above.end());
    }
    depth = std::max(depth, line.size());
    lines.push_back(std::move(line));
  }
  std::vector<int64_t> ancestors;
  std::vector<float> mask;
  for (int64_t node = 0; node < batch.nodes; ++node) {
    const auto& line = lines[static_cast<size_t>(node)];
    for (size_t j = 0; j < depth; ++j) {
      ancestors.push_back(j < line.size() ? line[j] : node);
      mask.push_back(j < line.size() ? 0.0f : static_cast<float>(hidden));
    }
  }
  const auto width = static_cast<int64_t>(depth);
  t.ancestors = longs(ancestors.data(), ancestors.size()).view({batch.nodes, width});
  t.ancestor_mask = floats(mask, {batch.nodes, 1, 1, width}, dtype);
  const Tensor prefix = longs(batch.node_prefix.data(), batch.node_prefix.size());
  for (const PackedRequest& r : batch.requests) {
    const Tensor row = at::arange(r.rows, at::kLong).unsqueeze(0);
    const Tensor end = prefix.narrow(0, r.node0, r.nodes).unsqueeze(1);
    t.node_masks.push_back(at::zeros({r.nodes, r.rows}, dtype).masked_fill_(row >= end, hidden));
  }
}

}  // namespace

std::array<std::vector<float>*, kTensorCount> draft_arrays(DraftWeights& w) {
  return {&w.fc,       &w.attn_norm, &w.hidden_norm, &w.wq,   &w.wk,          &w.wv,    &w.wo,
          &w.ffn_norm, &w.gate,      &w.up,          &w.down, &w.output_norm, &w.output};
}

Eagle3 eagle3_from(const DraftWeights& weights, at::ScalarType dtype) {
  Eagle3 draft;
  draft.shape = weights.shape;
  DraftWeights copy = weights;
  const auto arrays = draft_arrays(copy);
  const int64_t d = weights.shape.hidden, ff = weights.shape.ff;
  const int64_t q = int64_t{weights.shape.heads} * weights.shape.head_dim;
  const int64_t kv = int64_t{weights.shape.kv_heads} * weights.shape.head_dim;
  const auto v = static_cast<int64_t>(weights.d2t.size());
  const std::vector<int64_t> shapes[kTensorCount] = {
      {d, 3 * d}, {d},     {d},     {q, 2 * d}, {kv, 2 * d}, {kv, 2 * d}, {d, q},
      {d},        {ff, d}, {ff, d}, {d, ff},    {d},         {v, d}};
  for (size_t i = 0; i < kTensorCount; ++i) {
    CHECK(static_cast<int64_t>(arrays[i]->size()) == c10::multiply_integers(shapes[i]));
    draft.p[i] = floats(*arrays[i], shapes[i], dtype);
  }
  return draft;
}

DraftWeights eagle3_to(const Eagle3& draft, std::vector<int64_t> d2t) {
  DraftWeights weights;
  weights.shape = draft.shape;
  weights.d2t = std::move(d2t);
  const auto arrays = draft_arrays(weights);
  for (size_t i = 0; i < kTensorCount; ++i) {
    const Tensor flat = draft.p[i].detach().to(at::kFloat).contiguous();
    arrays[i]->assign(flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel());
  }
  return weights;
}

BatchTensors to_tensors(const PackedBatch& batch, const DraftShape& shape, at::ScalarType dtype) {
  BatchTensors t;
  t.taps = floats(batch.taps, {batch.rows + batch.nodes, 3 * batch.hidden}, dtype);
  t.embeds =
      unit_rms(floats(batch.embeds, {batch.embeds_count, batch.hidden}, dtype), shape.rms_eps);
  const Tensor row_embed = longs(batch.row_embed.data(), batch.row_embed.size());
  t.query_row = longs(batch.query_row.data(), batch.query_row.size());
  const auto queries = static_cast<size_t>(batch.queries);
  for (size_t k = 0; k < static_cast<size_t>(batch.steps); ++k)
    t.query_embed.push_back(longs(batch.query_embed.data() + k * queries, queries));
  const Tensor position = floats(batch.position, {batch.rows + batch.nodes}, at::kDouble);
  t.query_position = position.index_select(0, t.query_row);
  std::vector<int64_t> context;
  for (const PackedRequest& r : batch.requests)
    for (int j = 0; j < r.rows - r.queries; ++j) context.push_back(r.row0 + j);
  t.context_row = longs(context.data(), context.size());
  t.context_embed = row_embed.index_select(0, t.context_row);
  t.context_position = position.index_select(0, t.context_row);
  for (const PackedRequest& r : batch.requests) {
    // Query i stands at row first + i and sees rows up to itself.
    const Tensor row = at::arange(r.rows, at::kLong).unsqueeze(0);
    const Tensor last = at::arange(r.rows - r.queries, r.rows, at::kLong).unsqueeze(1);
    t.masks.push_back(at::zeros({r.queries, r.rows}, dtype)
                          .masked_fill_(row > last, -std::numeric_limits<double>::infinity()));
  }
  if (batch.nodes > 0) add_tree(batch, dtype, t);
  return t;
}

std::vector<Tensor> eagle3_forward(const Eagle3& draft, const PackedBatch& batch,
                                   const BatchTensors& tensors, int steps) {
  CHECK(steps <= batch.steps);
  return Forward(draft, batch, tensors).run(steps);
}

}  // namespace aurora
