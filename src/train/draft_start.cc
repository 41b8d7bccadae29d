#include "train/draft_start.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
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

void widen_mlp(DraftWeights& draft, int width, uint64_t seed) {
  Rng rng(seed);
  const auto hidden = static_cast<size_t>(draft.shape.hidden);
  const auto before = static_cast<size_t>(draft.shape.ff), after = static_cast<size_t>(width);
  for (auto* matrix : {&draft.gate, &draft.up}) {
    std::normal_distribution<float> normal(0, static_cast<float>(std::sqrt(mean_square(*matrix))));
    matrix->reserve(after * hidden);
    while (matrix->size() < after * hidden) matrix->push_back(normal(rng));
  }
  std::vector<float> down(hidden * after, 0.0f);
  for (size_t row = 0; row < hidden; ++row)
    std::copy_n(draft.down.begin() + static_cast<ptrdiff_t>(row * before), before,
                down.begin() + static_cast<ptrdiff_t>(row * after));
  draft.down = std::move(down);
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
