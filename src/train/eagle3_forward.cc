#include "train/eagle3_forward.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <cmath>
#include <numeric>

namespace aurora {
namespace {

using at::Tensor;

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

using Heads = Eagle3Forward::Heads;
using Own = Eagle3Forward::Own;
using Shared = Eagle3Forward::Shared;

// q: [n, kv, group, dim]; keys: [n, m, kv, dim] -> [n, kv, group, m].
Tensor own_products(const Tensor& q, const Tensor& keys) {
  return (q.unsqueeze(1) * keys.unsqueeze(3)).sum(-1).permute({0, 2, 3, 1});
}

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

}  // namespace

Own Own::rows(int64_t begin, int64_t count) const {
  if (!scores.defined()) return {};
  return {scores.narrow(0, begin, count), values.narrow(0, begin, count)};
}

Eagle3Forward::Eagle3Forward(const Eagle3& draft, const PackedBatch& batch,
                             const BatchTensors& tensors)
    : d_(draft),
      batch_(batch),
      t_(tensors),
      heads_{draft.shape.kv_heads, draft.shape.heads / draft.shape.kv_heads, draft.shape.head_dim},
      columns_(static_cast<size_t>(batch.queries)),
      paths_count_(batch.path_queries()),
      position_(tensors.query_position),
      ancestor_mask_(tensors.ancestor_mask) {
  std::iota(columns_.begin(), columns_.end(), 0);
  for (size_t i = 0; i < batch.requests.size(); ++i) {
    const PackedRequest& r = batch.requests[i];
    paths_.push_back({r.query0, r.queries, t_.masks[i]});
    nodes_.push_back({paths_count_ + r.node0, r.nodes, r.nodes > 0 ? t_.node_masks[i] : Tensor()});
  }
  context_entries(t_.taps.scalar_type());
  state_ = linear(d_, t_.taps.index_select(0, t_.query_row), d_[kFc]);
}

Tensor Eagle3Forward::next() {
  CHECK(step_ < batch_.steps);
  Tensor embed = t_.query_embed[static_cast<size_t>(step_)];
  if (index_.defined()) embed = embed.index_select(0, index_);
  state_ = layer(state_, joined(embed, state_), state_.scalar_type());
  ++step_;
  return unit_rms(state_, d_.shape.rms_eps) * d_[kOutputNorm];
}

void Eagle3Forward::keep(const std::vector<int64_t>& places) {
  const Tensor kept = longs(places);
  const auto cut = [&kept](Tensor& x) { x = x.index_select(0, kept); };
  cut(state_);
  cut(position_);
  for (size_t i = 0; i < own_k_.size(); ++i) {
    cut(own_k_[i]);
    cut(own_v_[i]);
  }
  std::vector<int64_t> columns, node_places;
  for (const int64_t place : places) {
    columns.push_back(columns_[static_cast<size_t>(place)]);
    if (place >= paths_count_) node_places.push_back(place - paths_count_);
  }
  if (batch_.nodes > 0) {
    const Tensor nodes = longs(node_places);
    for (Tensor* x : {&ancestor_k_, &ancestor_v_, &ancestor_mask_}) *x = x->index_select(0, nodes);
  }
  size_t at = 0;
  for (auto* parts : {&paths_, &nodes_}) {
    for (Part& part : *parts) {
      std::vector<int64_t> inside;
      const auto begin = static_cast<int64_t>(at);
      for (; at < places.size() && places[at] < part.begin + part.count; ++at)
        inside.push_back(places[at] - part.begin);
      if (part.count > 0) part.mask = part.mask.index_select(0, longs(inside));
      part.begin = begin;
      part.count = static_cast<int64_t>(inside.size());
    }
  }
  paths_count_ = static_cast<int64_t>(places.size() - node_places.size());
  columns_ = std::move(columns);
  index_ = longs(columns_);
}

Tensor Eagle3Forward::joined(const Tensor& embed_index, const Tensor& g) const {
  const Tensor e = t_.embeds.index_select(0, embed_index) * d_[kAttnNorm];
  return at::cat({e, unit_rms(g, d_.shape.rms_eps) * d_[kHiddenNorm]}, -1);
}

// Step-0 keys and values of the rows before the supervised ones: no query, no MLP, no head.
void Eagle3Forward::context_entries(at::ScalarType dtype) {
  if (t_.context_row.size(0) == 0) return;
  const at::AutoGradMode mode(at::GradMode::is_enabled() && d_.context_grad);
  const Tensor g = linear(d_, t_.taps.index_select(0, t_.context_row), d_[kFc]);
  const Tensor z = joined(t_.context_embed, g);
  context_k_ =
      rotate(kv_heads(linear(d_, z, d_[kWk])), rope_at(d_.shape, t_.context_position, dtype));
  context_v_ = kv_heads(linear(d_, z, d_[kWv]));
}

Tensor Eagle3Forward::kv_heads(const Tensor& x) const {
  return x.view({x.size(0), heads_.kv, heads_.dim});
}

Tensor Eagle3Forward::layer(const Tensor& state, const Tensor& z, at::ScalarType dtype) {
  const Rope rope = rope_at(d_.shape, position_ + step_, dtype);
  Tensor q = linear(d_, z, d_[kWq]).view({z.size(0), heads_.kv * heads_.group, heads_.dim});
  q = rotate(q, rope).view({z.size(0), heads_.kv, heads_.group, heads_.dim});
  add_entries(rotate(kv_heads(linear(d_, z, d_[kWk])), rope), kv_heads(linear(d_, z, d_[kWv])));
  const bool drops = d_.dropout > 0 && at::GradMode::is_enabled();
  const auto dropped = [&](const Tensor& x) {
    return drops ? at::dropout(x, d_.dropout, true) : x;
  };
  const Tensor h = state + linear(d_, dropped(attention(q)), d_[kWo]);
  const Tensor u = unit_rms(h, d_.shape.rms_eps) * d_[kFfnNorm];
  const Tensor hidden = at::silu(linear(d_, u, d_[kGate])) * linear(d_, u, d_[kUp]);
  return h + linear(d_, dropped(hidden), d_[kDown]);
}

void Eagle3Forward::add_entries(const Tensor& key, const Tensor& value) {
  if (step_ > 0) {
    own_k_.push_back(key);
    own_v_.push_back(value);
    return;
  }
  k0_ = key;
  v0_ = value;
  if (batch_.nodes > 0) {
    ancestor_k_ = of_ancestors(key);
    ancestor_v_ = of_ancestors(value);
  }
}

Tensor Eagle3Forward::attention(const Tensor& q) const {
  const Own later = later_entries(q);
  std::vector<Tensor> parts, node_parts;  // the order of the columns: paths, then nodes
  int64_t context = 0;                    // first context row of the request
  for (size_t i = 0; i < batch_.requests.size(); ++i) {
    const PackedRequest& r = batch_.requests[i];
    const Part &path = paths_[i], &nodes = nodes_[i];
    if (path.count + nodes.count > 0) {
      const Shared rows = {rows_of(context_k_, context, k0_, r),
                           rows_of(context_v_, context, v0_, r)};
      if (path.count > 0)
        parts.push_back(attend(heads_, q.narrow(0, path.begin, path.count), rows, path.mask,
                               later.rows(path.begin, path.count)));
      if (nodes.count > 0) node_parts.push_back(node_attention(q, rows, nodes, later));
    }
    context += r.rows - r.queries;
  }
  parts.insert(parts.end(), node_parts.begin(), node_parts.end());
  return at::cat(parts, 0);
}

// The later steps of each column, which that column alone sees: the test-time-training diagonal.
Own Eagle3Forward::later_entries(const Tensor& q) const {
  if (own_k_.empty()) return {};
  return {own_products(q, at::stack(own_k_, 1)), at::stack(own_v_, 1)};
}

// Step-0 entries of one request's rows: context, then its supervised columns.
Tensor Eagle3Forward::rows_of(const Tensor& above, int64_t context, const Tensor& step0,
                              const PackedRequest& r) const {
  const Tensor supervised = step0.narrow(0, r.query0, r.queries);
  const int64_t before = r.rows - r.queries;
  if (before == 0) return supervised;
  return at::cat({above.narrow(0, context, before), supervised}, 0);
}

// The nodes of one request: the rows before their fork, the entries of their ancestors and their
// own, and what each has of the diagonal.
Tensor Eagle3Forward::node_attention(const Tensor& q, const Shared& rows, const Part& part,
                                     const Own& later) const {
  const int64_t first = part.begin - paths_count_;  // among the nodes
  const Tensor node_q = q.narrow(0, part.begin, part.count);
  const Tensor mask = ancestor_mask_.narrow(0, first, part.count);
  Own own = {own_products(node_q, ancestor_k_.narrow(0, first, part.count)) + mask,
             ancestor_v_.narrow(0, first, part.count)};
  if (later.scores.defined()) {
    const Own steps = later.rows(part.begin, part.count);
    own = {at::cat({own.scores, steps.scores}, -1), at::cat({own.values, steps.values}, 1)};
  }
  return attend(heads_, node_q, rows, part.mask, own);
}

// [nodes, depth, kv, dim] of step-0 entries [queries, kv, dim].
Tensor Eagle3Forward::of_ancestors(const Tensor& step0) const {
  const Tensor nodes = step0.narrow(0, batch_.path_queries(), batch_.nodes);
  return nodes.index_select(0, t_.ancestors.flatten())
      .view({batch_.nodes, t_.ancestors.size(1), heads_.kv, heads_.dim});
}

std::vector<Tensor> eagle3_forward(const Eagle3& draft, const PackedBatch& batch,
                                   const BatchTensors& tensors, int steps) {
  Eagle3Forward forward(draft, batch, tensors);
  std::vector<Tensor> out;
  for (int k = 0; k < steps; ++k) out.push_back(forward.next());
  return out;
}

}  // namespace aurora
