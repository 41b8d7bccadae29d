#include "train/head_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace aurora {
namespace {

constexpr int64_t kChunkRows = 128;  // 128 x 8192 fp32 = 4 MiB

struct Choice {
  std::vector<int64_t> index, law, column;
  std::vector<double> weight;
};

Choice choose(const PackedBatch& batch, const RowBlock& block, const RowOptions& options,
              const RowNeeds& needs) {
  Choice chosen;
  const auto queries = static_cast<size_t>(batch.queries);
  const size_t columns = block.columns.size();
  const auto first_node = static_cast<size_t>(
      std::lower_bound(block.columns.begin(), block.columns.end(), batch.path_queries()) -
      block.columns.begin());
  const size_t first = options.branches ? first_node : 0;
  const size_t end = options.branches ? columns : first_node;
  const double decay = needs.own_weights ? 1.0 : options.step_decay;
  const auto take = [&](size_t k, size_t place) {
    const auto step = static_cast<size_t>(block.step0) + k;
    const int64_t law = batch.query_law[step * queries + static_cast<size_t>(block.columns[place])];
    if (law < 0) return false;
    const auto row = static_cast<size_t>(law);
    if (needs.served ? batch.served[row] < 0 : batch.law_mass[row] <= 0) return false;
    const double prompt = batch.law_of_prompt[row] != 0 ? options.prompt_weight : 1.0;
    chosen.index.push_back(static_cast<int64_t>(k * columns + place));
    chosen.law.push_back(law);
    chosen.column.push_back(block.columns[place]);
    chosen.weight.push_back(prompt * std::pow(decay, static_cast<double>(step)));
    return true;
  };
  const auto steps = static_cast<size_t>(block.steps);
  if (needs.by_column) {
    for (size_t place = first; place < end; ++place) {
      size_t k = 0;
      while (k < steps && take(k, place)) ++k;
    }
    return chosen;
  }
  for (size_t k = 0; k < steps; ++k)
    for (size_t place = first; place < end; ++place) take(k, place);
  return chosen;
}

// One column is never cut in two.
int64_t chunk_end(const LawBatch& law, int64_t begin, int64_t rows) {
  int64_t end = std::min(rows, begin + kChunkRows);
  if (!law.column.defined() || end == rows) return end;
  const auto* column = law.column.data_ptr<int64_t>();
  while (end > begin + 1 && column[end] == column[end - 1]) --end;
  return end;
}

LawBatch slice(const LawBatch& law, int64_t begin, int64_t count) {
  const auto cut = [&](const at::Tensor& t) { return t.defined() ? t.narrow(0, begin, count) : t; };
  return {cut(law.ids),  cut(law.probs),  cut(law.weights),
          cut(law.rest), cut(law.served), cut(law.column)};
}

void add_hits(const at::Tensor& logits, const LawBatch& law, std::vector<uint8_t>& hit) {
  // A branch has no served token; a name outside the vocabulary has p = 0.
  const at::Tensor first =
      at::where(law.probs.select(1, 0) > 0, law.ids.select(1, 0), at::full({}, -1, at::kLong));
  const at::Tensor wanted = at::where(law.served >= 0, law.served, first);
  const at::Tensor equal = logits.argmax(-1).eq(wanted).to(at::kByte).contiguous();
  const auto* values = equal.data_ptr<uint8_t>();
  hit.insert(hit.end(), values, values + equal.numel());
}

}  // namespace

CountingRows counting_rows(const PackedBatch& batch, const RowBlock& block,
                           const RowOptions& options, const RowNeeds& needs, at::ScalarType dtype) {
  const Choice chosen = choose(batch, block, options, needs);
  CountingRows counting;
  counting.rows = static_cast<int>(chosen.index.size());
  if (counting.rows == 0) return counting;
  const at::Tensor rows = at::tensor(chosen.law, at::kLong);
  const at::Tensor ids = at::tensor(batch.law_ids, at::kInt).view({batch.laws, batch.law_k});
  const at::Tensor probs = at::tensor(batch.law_probs, at::kFloat).view({batch.laws, batch.law_k});
  const at::Tensor weights = at::tensor(chosen.weight, at::kDouble);
  counting.index = at::tensor(chosen.index, at::kLong);
  LawBatch& law = counting.law;
  law.ids = ids.index_select(0, rows).clamp_min(0).to(at::kLong);
  law.probs = probs.index_select(0, rows).to(dtype);
  const double norm = options.norm > 0 ? options.norm : counting.rows;
  law.weights = (weights / norm * options.scale).to(dtype);
  law.rest = at::tensor(batch.law_rest, at::kFloat).index_select(0, rows).to(dtype);
  law.served = at::tensor(batch.served, at::kInt).index_select(0, rows).to(at::kLong);
  if (needs.by_column) law.column = at::tensor(chosen.column, at::kLong);
  return counting;
}

int count_rows(const PackedBatch& batch, const RowBlock& block, const RowOptions& options,
               const RowNeeds& needs) {
  return static_cast<int>(choose(batch, block, options, needs).index.size());
}

at::Tensor rows_of_terms(std::span<const LossTerm> terms) {
  std::vector<at::Tensor> index;
  for (const LossTerm& term : terms)
    if (term.rows.rows > 0) index.push_back(term.rows.index);
  return index.empty() ? at::Tensor() : at::cat(index, 0);
}

HeadLoss head_loss(std::span<const LossTerm> terms, const at::Tensor& states,
                   const at::Tensor& head, at::Tensor& grad_head, bool want_hits) {
  const at::NoGradGuard no_grad;
  HeadLoss result;
  result.grad_states = at::empty_like(states);
  at::Tensor logits =
      at::empty({std::min(states.size(0), kChunkRows), head.size(0)}, states.options());
  int64_t row0 = 0;  // first row of the term
  for (const LossTerm& term : terms) {
    const int64_t rows = term.rows.rows;
    for (int64_t begin = 0, end = 0; begin < rows; begin = end) {
      end = chunk_end(term.rows.law, begin, rows);
      const int64_t count = end - begin;
      const at::Tensor chunk_states = states.narrow(0, row0 + begin, count);
      at::Tensor chunk = logits.narrow(0, 0, count);
      at::mm_out(chunk, chunk_states, head.t());
      const LawBatch law = slice(term.rows.law, begin, count);
      if (want_hits) add_hits(chunk, law, result.hit);
      result.loss += term.objective.loss_and_grad(chunk, law);
      at::Tensor grad_chunk = result.grad_states.narrow(0, row0 + begin, count);
      at::mm_out(grad_chunk, chunk, head);
      grad_head.addmm_(chunk.t(), chunk_states);
    }
    row0 += rows;
  }
  return result;
}

}  // namespace aurora
