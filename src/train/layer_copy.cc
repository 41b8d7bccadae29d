#include "train/layer_copy.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <span>

namespace aurora {
namespace {

constexpr uint64_t kSeed = 1;  // of what starts at random: every trainer of a target starts alike

using Matrix = std::vector<float>;

size_t as_size(int64_t value) { return static_cast<size_t>(value); }

Matrix read(const TensorRows& from) {
  const size_t cols = as_size(from.tensor.cols);
  Matrix out(as_size(from.rows) * cols);
  for (int64_t row = 0; row < from.rows; ++row)
    dequantise_row(from.tensor, from.first + row, out.data() + as_size(row) * cols);
  return out;
}

std::vector<float> read_or_ones(const std::optional<GgufTensor>& norm, int size) {
  return norm ? dequantise(*norm) : std::vector<float>(as_size(size), 1.0f);
}

// [rows, cols], each row's outcome of size one for an input of which every value is of size one.
Matrix random_rows(int64_t rows, int64_t cols, std::mt19937_64& rng) {
  std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(cols)));
  Matrix out(as_size(rows * cols));
  for (float& value : out) value = normal(rng);
  return out;
}

void scale_by(Matrix& matrix, double factor) {
  for (float& value : matrix) value = static_cast<float>(value * factor);
}

// Of the first `rotated` rows of a head, the pair (i, i + rotated/2) becomes neighbours. q and k
// turn alike, so their products stay what they were.
Matrix to_interleaved(const Matrix& weight, int head_dim, int rotated, int cols) {
  Matrix out(weight.size());
  const size_t rows = weight.size() / as_size(cols);
  for (size_t row = 0; row < rows; ++row) {
    const int inner = static_cast<int>(row % as_size(head_dim));
    const size_t head_start = row - as_size(inner);
    int source = inner;
    if (inner < rotated) source = inner / 2 + (inner % 2) * (rotated / 2);
    std::copy_n(
        weight.begin() + static_cast<ptrdiff_t>((head_start + as_size(source)) * as_size(cols)),
        cols, out.begin() + static_cast<ptrdiff_t>(row * as_size(cols)));
  }
  return out;
}

// [rows, cols] to [rows, 2 cols]: zeros for the token embedding, the target's weight for its hidden
// state.
Matrix behind_zeros(const Matrix& weight, int cols) {
  Matrix out(weight.size() * 2, 0.0f);
  const size_t rows = weight.size() / as_size(cols);
  for (size_t row = 0; row < rows; ++row)
    std::copy_n(weight.begin() + static_cast<ptrdiff_t>(row * as_size(cols)), cols,
                out.begin() + static_cast<ptrdiff_t>((2 * row + 1) * as_size(cols)));
  return out;
}

// The mean square of each row's outcome. Inputs: values of mean square `in`, that know nothing of
// each other.
std::vector<double> outcome_squares(const Matrix& weight, std::span<const double> in) {
  std::vector<double> out(weight.size() / in.size());
  for (size_t row = 0; row < out.size(); ++row)
    for (size_t i = 0; i < in.size(); ++i)
      out[row] += std::pow(double{weight[row * in.size() + i]}, 2) * in[i];
  return out;
}

double mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

// Gives groups of rows the size that a norm over each group would: the norm's weights are [group],
// or [groups, group].
void apply_norm(Matrix& weight, std::span<const double> squares, const GgufTensor& norm) {
  const std::vector<float> by = dequantise(norm);
  const size_t group = as_size(norm.cols), cols = weight.size() / squares.size();
  for (size_t row = 0; row < squares.size(); ++row) {
    const double size = std::sqrt(mean(squares.subspan(row / group * group, group)));
    const double factor = size > 0 ? by[row % by.size()] / size : 0;
    for (size_t i = 0; i < cols; ++i)
      weight[row * cols + i] = static_cast<float>(weight[row * cols + i] * factor);
  }
}

// Takes from each column its mean: what is written has no mean, so a LayerNorm of the sum and an
// RMS norm are one.
void centre(Matrix& weight, int rows) {
  const size_t cols = weight.size() / as_size(rows);
  for (size_t column = 0; column < cols; ++column) {
    double sum = 0;
    for (size_t row = 0; row < as_size(rows); ++row) sum += double{weight[row * cols + column]};
    const float part = static_cast<float>(sum / rows);
    for (size_t row = 0; row < as_size(rows); ++row) weight[row * cols + column] -= part;
  }
}

std::vector<double> squares_of(const std::vector<float>& norm) {
  std::vector<double> out;
  for (const float value : norm) out.push_back(double{value} * double{value});
  return out;
}

void copy_attention(const LayerAttention& from, const TargetLayer& layer,
                    const LayerCopyOptions& options, DraftWeights& draft) {
  const int hidden = draft.shape.hidden;
  const std::vector<double> in = squares_of(draft.hidden_norm);
  Matrix q = read(from.q), k = read(from.k), v = read(from.v);
  if (from.q_norm) apply_norm(q, outcome_squares(q, in), *from.q_norm);
  if (from.k_norm) apply_norm(k, outcome_squares(k, in), *from.k_norm);
  if (from.score_scale > 0)
    scale_by(q, double{from.score_scale} * std::sqrt(static_cast<double>(from.head_dim)));
  if (!options.interleaved_rope) {
    const int rotated = std::min(options.rotated, from.head_dim);
    q = to_interleaved(q, from.head_dim, rotated, hidden);
    k = to_interleaved(k, from.head_dim, rotated, hidden);
  }
  draft.wo = read(from.o);
  if (layer.attention_outcome_norm) {
    const std::vector<double> values = outcome_squares(v, in);
    std::vector<double> heads;  // each query head takes the values of its group
    const size_t dim = as_size(from.head_dim), group = as_size(from.heads / from.kv_heads);
    for (size_t i = 0; i < as_size(from.heads) * dim; ++i)
      heads.push_back(values[i / dim / group * dim + i % dim]);
    apply_norm(draft.wo, outcome_squares(draft.wo, heads), *layer.attention_outcome_norm);
  }
  draft.wq = behind_zeros(q, hidden);
  draft.wk = behind_zeros(k, hidden);
  draft.wv = behind_zeros(v, hidden);
}

void random_attention(DraftWeights& draft, std::mt19937_64& rng) {
  const DraftShape& shape = draft.shape;
  const int64_t q_rows = int64_t{shape.heads} * shape.head_dim;
  const int64_t kv_rows = int64_t{shape.kv_heads} * shape.head_dim;
  draft.wq = random_rows(q_rows, 2 * shape.hidden, rng);
  draft.wk = random_rows(kv_rows, 2 * shape.hidden, rng);
  draft.wv = random_rows(kv_rows, 2 * shape.hidden, rng);
  draft.wo.assign(as_size(q_rows * shape.hidden), 0.0f);
}

// E[silu(z)^2] of a normal z of this mean square: exact where it is small or large, within a tenth
// between.
double silu_square(double square) { return square * (0.25 + 0.25 * square / (1 + square)); }

// gelu(x) is x sigmoid(1.702 x) within 0.02, which is silu(1.702 x) / 1.702.
constexpr double kGeluToSilu = 1.702;

void copy_mlp(const TargetLayer& layer, const LayerCopyOptions& options, DraftWeights& draft) {
  const size_t hidden = as_size(draft.shape.hidden), width = as_size(draft.shape.ff);
  draft.down.assign(hidden * width, 0.0f);
  size_t first = 0;
  for (const LayerUnits& units : layer.mlp) {
    const Matrix gate = read(units.gate), up = read(units.up), down = read(units.down);
    draft.gate.insert(draft.gate.end(), gate.begin(), gate.end());
    draft.up.insert(draft.up.end(), up.begin(), up.end());
    const size_t own = as_size(units.gate.rows);
    for (size_t row = 0; row < hidden; ++row)
      for (size_t i = 0; i < own; ++i)
        draft.down[row * width + first + i] = down[row * own + i] * units.weight;
    first += own;
  }
  if (options.gelu_gate) {
    scale_by(draft.gate, kGeluToSilu);
    scale_by(draft.down, 1 / kGeluToSilu);
  }
  if (!layer.mlp_outcome_norm) return;
  const std::vector<double> in = squares_of(draft.ffn_norm);
  std::vector<double> units = outcome_squares(draft.gate, in);
  const std::vector<double> ups = outcome_squares(draft.up, in);
  for (size_t i = 0; i < units.size(); ++i) units[i] = silu_square(units[i]) * ups[i];
  apply_norm(draft.down, outcome_squares(draft.down, units), *layer.mlp_outcome_norm);
}

void random_mlp(DraftWeights& draft, std::mt19937_64& rng) {
  const DraftShape& shape = draft.shape;
  draft.gate = random_rows(shape.ff, shape.hidden, rng);
  draft.up = random_rows(shape.ff, shape.hidden, rng);
  draft.down.assign(as_size(shape.hidden) * as_size(shape.ff), 0.0f);
}

// The last tap goes through as it is.
Matrix pass_last_tap(int hidden) {
  Matrix fc(as_size(hidden) * as_size(hidden) * 3, 0.0f);
  for (size_t row = 0; row < as_size(hidden); ++row)
    fc[row * as_size(hidden) * 3 + 2 * as_size(hidden) + row] = 1.0f;
  return fc;
}

}  // namespace

void copy_layer(const TargetLayer& layer, const LayerCopyOptions& options, DraftWeights& draft) {
  std::mt19937_64 rng(kSeed);
  const int hidden = draft.shape.hidden;
  draft.fc = pass_last_tap(hidden);
  draft.hidden_norm = read_or_ones(layer.attention_norm, hidden);
  draft.ffn_norm = read_or_ones(layer.mlp_norm, hidden);
  if (layer.attention) copy_attention(*layer.attention, layer, options, draft);
  if (!layer.attention) random_attention(draft, rng);
  if (!layer.mlp.empty()) copy_mlp(layer, options, draft);
  if (layer.mlp.empty()) random_mlp(draft, rng);
  if (layer.residual_scale != 1) {
    scale_by(draft.wo, double{layer.residual_scale});
    scale_by(draft.down, double{layer.residual_scale});
  }
  if (!options.centred) return;
  for (Matrix* writes : {&draft.fc, &draft.wo, &draft.down}) centre(*writes, hidden);
}

}  // namespace aurora
