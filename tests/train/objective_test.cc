// Every objective's value against its formula in plain loops, and its gradient against central
// differences of that formula, all in float64.
#include "train/objective.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

namespace aurora {
namespace {

using Vec = std::vector<double>;

constexpr int kVocab = 9, kTop = 4;

struct Row {
  std::vector<std::pair<int, double>> law;  // by falling p; index -1: outside the vocabulary
  double rest = 0, weight = 0;
  int served = 0, column = 0;
};

// Three columns of three, one and two steps. Row 3 names a token outside, row 4 leaves no rest.
std::vector<Row> sample_rows() {
  return {{{{1, 0.50}, {4, 0.30}, {7, 0.05}, {0, 0.01}}, 0.14, 0.20, 1, 0},
          {{{0, 0.70}, {8, 0.10}, {3, 0.10}, {2, 0.05}}, 0.05, 0.16, 8, 0},
          {{{5, 0.40}, {6, 0.35}, {1, 0.15}, {4, 0.02}}, 0.08, 0.13, 0, 0},
          {{{-1, 0.6}, {2, 0.25}, {0, 0.05}, {5, 0.03}}, 0.07, 0.20, 2, 3},
          {{{8, 0.90}, {7, 0.06}, {6, 0.03}, {0, 0.01}}, 0.00, 0.20, 8, 4},
          {{{3, 0.33}, {2, 0.32}, {4, 0.20}, {7, 0.10}}, 0.05, 0.16, 3, 4}};
}

LawBatch to_batch(const std::vector<Row>& rows, at::ScalarType dtype) {
  std::vector<int64_t> ids, served, column;
  Vec probs, weights, rest;
  for (const Row& row : rows) {
    for (const auto& [id, p] : row.law) {
      ids.push_back(std::max(id, 0));
      probs.push_back(id < 0 ? 0 : p);
    }
    served.push_back(row.served);
    column.push_back(row.column);
    weights.push_back(row.weight);
    rest.push_back(row.rest);
  }
  const auto n = static_cast<int64_t>(rows.size());
  LawBatch law;
  law.ids = at::tensor(ids, at::kLong).view({n, kTop});
  law.probs = at::tensor(probs, at::kDouble).view({n, kTop}).to(dtype);
  law.weights = at::tensor(weights, at::kDouble).to(dtype);
  law.rest = at::tensor(rest, at::kDouble).to(dtype);
  law.served = at::tensor(served, at::kLong);
  law.column = at::tensor(column, at::kLong);
  return law;
}

Vec softmax(const Vec& z, double temperature = 1) {
  Vec q;
  double sum = 0;
  for (double x : z) sum += std::exp(x / temperature);
  for (double x : z) q.push_back(std::exp(x / temperature) / sum);
  return q;
}

Vec dense_law(const Row& row) {
  Vec p(kVocab, 0.0);
  for (const auto& [id, value] : row.law)
    if (id >= 0) p[static_cast<size_t>(id)] = value;
  return p;
}

double sum_of(const Vec& p, const Vec& q, const std::function<double(double, double)>& f) {
  double sum = 0;
  for (size_t v = 0; v < p.size(); ++v) sum += f(p[v], q[v]);
  return sum;
}

double overlap(const Vec& p, const Vec& q) {
  return sum_of(p, q, [](double a, double b) { return std::min(a, b); });
}

double cross(const Vec& p, const Vec& q) {
  return sum_of(p, q, [](double a, double b) { return a > 0 ? -a * std::log(b) : 0; });
}

double reverse_kl(const Row& row, const Vec& p, const Vec& q) {
  double mass = 0;
  int others = kVocab;
  for (double x : p) {
    mass += x;
    others -= x > 0;
  }
  const double rest = std::max(row.rest, 1e-6);
  double kl = 0;
  for (size_t v = 0; v < p.size(); ++v)
    kl += q[v] * std::log(q[v] * (mass + rest) / (p[v] > 0 ? p[v] : rest / others));
  return mass * kl;
}

// What is held constant in the gradient: taken at the point itself.
struct Frozen {
  Vec kl_share, reach;
};

Frozen freeze(const std::vector<Vec>& logits, const std::vector<Row>& rows) {
  Frozen frozen;
  double reached = 1;
  for (size_t r = 0; r < rows.size(); ++r) {
    const Vec p = dense_law(rows[r]);
    if (r > 0 && rows[r].column != rows[r - 1].column) reached = 1;
    frozen.kl_share.push_back(std::exp(-3 * overlap(p, softmax(logits[r]))));
    frozen.reach.push_back(reached);
    reached *= p[static_cast<size_t>(std::max_element(logits[r].begin(), logits[r].end()) -
                                     logits[r].begin())];
  }
  return frozen;
}

double accept_len(const std::vector<Vec>& logits, const std::vector<Row>& rows,
                  double temperature) {
  double loss = 0, product = 1;
  for (size_t r = 0; r < rows.size(); ++r) {
    if (r > 0 && rows[r].column != rows[r - 1].column) product = 1;
    product *= sum_of(dense_law(rows[r]), softmax(logits[r], temperature),
                      [](double a, double b) { return a * b; });
    loss += rows[r].weight * (1 - product);
  }
  return loss;
}

double formula(ObjectiveKind kind, bool reach, const std::vector<Vec>& logits,
               const std::vector<Row>& rows, const Frozen& frozen) {
  if (kind == ObjectiveKind::kAcceptLen) return accept_len(logits, rows, 1);
  if (kind == ObjectiveKind::kAcceptLenGreedy) return accept_len(logits, rows, 0.5);
  double loss = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    const Vec p = dense_law(rows[r]), q = softmax(logits[r]);
    const double beta = overlap(p, q), kl_share = frozen.kl_share[r];
    double row = 0;
    switch (kind) {
      case ObjectiveKind::kForwardKl: row = cross(p, q); break;
      case ObjectiveKind::kReverseKl: row = reverse_kl(rows[r], p, q); break;
      case ObjectiveKind::kCrossEntropy:
        row = -std::log(q[static_cast<size_t>(rows[r].served)]);
        break;
      case ObjectiveKind::kOverlapNla: row = -std::log(beta); break;
      default: row = kl_share * cross(p, q) + (1 - kl_share) * (1 - beta);
    }
    loss += rows[r].weight * (reach ? frozen.reach[r] : 1) * row;
  }
  return loss;
}

std::vector<Vec> sample_logits(size_t rows, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> normal(0, 1.5);
  std::vector<Vec> logits(rows, Vec(kVocab));
  for (Vec& row : logits)
    for (double& x : row) x = normal(rng);
  // Rows 0 and 4 say what the law prefers: the steps behind them are reached.
  logits[0][1] = logits[4][8] = 4;
  return logits;
}

at::Tensor to_tensor(const std::vector<Vec>& rows) {
  Vec flat;
  for (const Vec& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  return at::tensor(flat, at::kDouble).view({static_cast<int64_t>(rows.size()), kVocab});
}

constexpr ObjectiveKind kKinds[] = {
    ObjectiveKind::kForwardKl,    ObjectiveKind::kReverseKl,       ObjectiveKind::kCrossEntropy,
    ObjectiveKind::kAcceptLen,    ObjectiveKind::kAcceptLenGreedy, ObjectiveKind::kOverlapNla,
    ObjectiveKind::kOverlapBlend,
};

// h = 1e-5, float64: the error of a central difference is about 1e-10 here.
void expect_gradient(const std::vector<Vec>& logits, const at::Tensor& grad,
                     const std::function<double(const std::vector<Vec>&)>& loss) {
  for (size_t r = 0; r < logits.size(); ++r) {
    for (size_t v = 0; v < kVocab; ++v) {
      std::vector<Vec> moved = logits;
      const double h = 1e-5;
      moved[r][v] = logits[r][v] + h;
      const double above = loss(moved);
      moved[r][v] = logits[r][v] - h;
      const double expected = (above - loss(moved)) / (2 * h);
      EXPECT_NEAR(grad[static_cast<int64_t>(r)][static_cast<int64_t>(v)].item<double>(), expected,
                  1e-9 + 1e-7 * std::abs(expected))
          << "row " << r << " token " << v;
    }
  }
}

TEST(Objective, ValuesAndGradientsOfAllKinds) {
  const std::vector<Row> rows = sample_rows();
  for (ObjectiveKind kind : kKinds) {
    for (bool reach : {false, true}) {
      SCOPED_TRACE("kind " + std::to_string(static_cast<int>(kind)) + (reach ? " reach" : ""));
      const std::vector<Vec> logits = sample_logits(rows.size(), 3);
      const Frozen frozen = freeze(logits, rows);
      const auto loss = [&](const std::vector<Vec>& z) {
        return formula(kind, reach, z, rows, frozen);
      };
      at::Tensor grad = to_tensor(logits);
      const double value =
          make_objective(kind, reach)->loss_and_grad(grad, to_batch(rows, at::kDouble));
      EXPECT_NEAR(value, loss(logits), 1e-12);
      EXPECT_GT(value, 0);
      expect_gradient(logits, grad, loss);
    }
  }
}

TEST(Objective, DiscardLooksAtTheTopOfTheLaw) {
  const std::vector<Row> rows = sample_rows();
  const std::vector<Vec> logits = sample_logits(rows.size(), 4);
  for (size_t top_k : {size_t{1}, size_t{2}, size_t{0}}) {
    std::vector<Row> cut = rows;
    if (top_k > 0)
      for (Row& row : cut) row.law.resize(top_k);
    const auto loss = [&](const std::vector<Vec>& z) {
      return formula(ObjectiveKind::kForwardKl, false, z, cut, freeze(z, cut));
    };
    at::Tensor grad = to_tensor(logits);
    const double value = make_discard_objective(static_cast<int>(top_k))
                             ->loss_and_grad(grad, to_batch(rows, at::kDouble));
    EXPECT_NEAR(value, loss(logits), 1e-12);
    expect_gradient(logits, grad, loss);
  }
}

// By hand: q = softmax(log 2, 0, 0) = (1/2, 1/4, 1/4), p = (0, 0.6, 0.2) of mass 0.8, weight 1/2.
TEST(Objective, ForwardKlByHand) {
  at::Tensor logits = at::tensor({std::log(2.0), 0.0, 0.0}, at::kDouble).view({1, 3});
  LawBatch law;
  law.ids = at::tensor({1, 2}, at::kLong).view({1, 2});
  law.probs = at::tensor({0.6, 0.2}, at::kDouble).view({1, 2});
  law.weights = at::tensor({0.5}, at::kDouble);
  const double loss = make_objective(ObjectiveKind::kForwardKl)->loss_and_grad(logits, law);
  EXPECT_NEAR(loss, 0.5 * 0.8 * std::log(4.0), 1e-12);
  EXPECT_NEAR(logits[0][0].item<double>(), 0.5 * 0.8 * 0.5, 1e-12);
  EXPECT_NEAR(logits[0][1].item<double>(), 0.5 * (0.8 * 0.25 - 0.6), 1e-12);
  EXPECT_NEAR(logits[0][2].item<double>(), 0.5 * (0.8 * 0.25 - 0.2), 1e-12);
}

// By hand, two steps with q = (1/2, 1/2) each: alpha = 0.4 and 0.3, weights 1. loss = 0.6 + 0.88.
// d(loss)/d(alpha_0) = -(1 + 0.3), d(loss)/d(alpha_1) = -0.4.
TEST(Objective, AcceptLenByHand) {
  at::Tensor logits = at::zeros({2, 2}, at::kDouble);
  LawBatch law;
  law.ids = at::tensor({0, 1, 1, 0}, at::kLong).view({2, 2});
  law.probs = at::tensor({0.8, 0.0, 0.6, 0.0}, at::kDouble).view({2, 2});
  law.weights = at::ones({2}, at::kDouble);
  law.column = at::tensor({5, 5}, at::kLong);
  const double loss = make_objective(ObjectiveKind::kAcceptLen)->loss_and_grad(logits, law);
  EXPECT_NEAR(loss, 0.6 + 0.88, 1e-12);
  EXPECT_NEAR(logits[0][0].item<double>(), -1.3 * 0.5 * (0.8 - 0.4), 1e-12);
  EXPECT_NEAR(logits[1][1].item<double>(), -0.4 * 0.5 * (0.6 - 0.3), 1e-12);
}

// q is 0 in fp32 wherever p is not.
TEST(Objective, ExtremeLogitsStayFinite) {
  std::vector<Row> rows = sample_rows();
  for (ObjectiveKind kind : kKinds) {
    std::vector<Vec> logits(rows.size(), Vec(kVocab, -300.0));
    for (size_t r = 0; r < rows.size(); ++r) logits[r][r == 3 ? 8 : r == 1 ? 4 : 2] = 300;
    at::Tensor grad = to_tensor(logits).to(at::kFloat);
    const double value = make_objective(kind)->loss_and_grad(grad, to_batch(rows, at::kFloat));
    EXPECT_TRUE(std::isfinite(value)) << static_cast<int>(kind);
    EXPECT_TRUE(grad.isfinite().all().item<bool>()) << static_cast<int>(kind);
  }
}

}  // namespace
}  // namespace aurora
