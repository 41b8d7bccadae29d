#include "train/draft_start.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <random>
#include <utility>

namespace aurora {
namespace {

using Rng = std::mt19937_64;

double mean_square(const std::vector<float>& x) {
  double sum = 0;
  for (float value : x) sum += double{value} * double{value};
  return x.empty() ? 0 : sum / static_cast<double>(x.size());
}

// Of each unit: |gate row * norm| |up row * norm| |down column|.
std::vector<double> strength_of_units(const DraftWeights& draft) {
  const auto hidden = static_cast<size_t>(draft.shape.hidden);
  const auto units = static_cast<size_t>(draft.shape.ff);
  std::vector<double> strength(units);
  for (size_t unit = 0; unit < units; ++unit) {
    double gate = 0, up = 0, down = 0;
    for (size_t i = 0; i < hidden; ++i) {
      const double norm = double{draft.ffn_norm[i]};
      gate += std::pow(double{draft.gate[unit * hidden + i]} * norm, 2);
      up += std::pow(double{draft.up[unit * hidden + i]} * norm, 2);
      down += std::pow(double{draft.down[i * units + unit]}, 2);
    }
    strength[unit] = std::sqrt(gate) * std::sqrt(up) * std::sqrt(down);
  }
  return strength;
}

void narrow_mlp(DraftWeights& draft, size_t width) {
  const std::vector<double> strength = strength_of_units(draft);
  const size_t hidden = static_cast<size_t>(draft.shape.hidden), units = strength.size();
  std::vector<size_t> kept(units);
  std::iota(kept.begin(), kept.end(), size_t{0});
  std::stable_sort(kept.begin(), kept.end(),
                   [&](size_t a, size_t b) { return strength[a] > strength[b]; });
  kept.resize(width);
  std::sort(kept.begin(), kept.end());
  for (auto* matrix : {&draft.gate, &draft.up}) {
    std::vector<float> rows;
    rows.reserve(width * hidden);
    for (const size_t unit : kept)
      rows.insert(rows.end(), matrix->begin() + static_cast<ptrdiff_t>(unit * hidden),
                  matrix->begin() + static_cast<ptrdiff_t>((unit + 1) * hidden));
    *matrix = std::move(rows);
  }
  std::vector<float> down;
  down.reserve(hidden * width);
  for (size_t row = 0; row < hidden; ++row)
    for (const size_t unit : kept) down.push_back(draft.down[row * units + unit]);
  draft.down = std::move(down);
}

void widen_mlp(DraftWeights& draft, size_t width, uint64_t seed) {
  Rng rng(seed);
  const auto hidden = static_cast<size_t>(draft.shape.hidden);
  const auto before = static_cast<size_t>(draft.shape.ff);
  for (auto* matrix : {&draft.gate, &draft.up}) {
    std::normal_distribution<float> normal(0, static_cast<float>(std::sqrt(mean_square(*matrix))));
    matrix->reserve(width * hidden);
    while (matrix->size() < width * hidden) matrix->push_back(normal(rng));
  }
  std::vector<float> down(hidden * width, 0.0f);
  for (size_t row = 0; row < hidden; ++row)
    std::copy_n(draft.down.begin() + static_cast<ptrdiff_t>(row * before), before,
                down.begin() + static_cast<ptrdiff_t>(row * width));
  draft.down = std::move(down);
}

}  // namespace

void attend_to_own_token(DraftWeights& draft, const OwnTokenStart& options, uint64_t seed) {
  Rng rng(seed);
  const DraftShape& shape = draft.shape;
  const auto d = static_cast<size_t>(shape.hidden), dim = static_cast<size_t>(shape.head_dim);
  const auto group = static_cast<size_t>(shape.heads / shape.kv_heads);
  // A normed embedding e has |e|^2 = D * mean(attn_norm^2), so rows of deviation s / sqrt(D) make q
  // k / sqrt(dim) = sqrt(dim) s^2 mean(attn_norm^2) for equal tokens, and about zero for others.
  const double gain = mean_square(draft.attn_norm) * std::sqrt(static_cast<double>(dim));
  const double deviation = std::sqrt(double{options.score} / gain / static_cast<double>(d));
  std::normal_distribution<float> normal(0, static_cast<float>(deviation));
  for (size_t kv = 0; kv < static_cast<size_t>(shape.kv_heads); ++kv) {
    for (size_t row = 0; row < dim; ++row) {
      for (size_t column = 0; column < d; ++column) {
        const float value = normal(rng);
        draft.wk[(kv * dim + row) * 2 * d + column] += value;
        for (size_t head = kv * group; head < (kv + 1) * group; ++head)
          draft.wq[(head * dim + row) * 2 * d + column] += value;
      }
    }
  }
  // Half of wv is the copy, half zeros.
  const double copied = std::sqrt(2 * mean_square(draft.wv));
  std::normal_distribution<float> value(0, static_cast<float>(copied * options.value_scale));
  for (size_t row = 0; row < draft.wv.size() / (2 * d); ++row)
    for (size_t column = 0; column < d; ++column) draft.wv[row * 2 * d + column] = value(rng);
}

void resize_mlp(DraftWeights& draft, int width, uint64_t seed) {
  if (width < draft.shape.ff) narrow_mlp(draft, static_cast<size_t>(width));
  if (width > draft.shape.ff) widen_mlp(draft, static_cast<size_t>(width), seed);
  draft.shape.ff = width;
}

void randomise(DraftWeights& draft, uint64_t seed) {
  Rng rng(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  for (auto* matrix : {&draft.fc, &draft.wq, &draft.wk, &draft.wv, &draft.wo, &draft.gate,
                       &draft.up, &draft.down, &draft.output})
    for (float& x : *matrix) x = normal(rng);
}

}  // namespace aurora
