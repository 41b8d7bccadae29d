// Against double products of the weights as ggml dequantises them: our error is no larger than that
// of stock's kernels.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "ggml-cpu.h"
#include "ggml.h"
#include "random_matrix.h"

namespace aurora::kernels {
namespace {

ggml_type ggml_type_of(WeightType type) {
  constexpr ggml_type kTypes[] = {
      GGML_TYPE_Q4_0,  GGML_TYPE_Q4_1, GGML_TYPE_Q5_0,   GGML_TYPE_Q5_1,
      GGML_TYPE_Q8_0,  GGML_TYPE_Q2_K, GGML_TYPE_Q3_K,   GGML_TYPE_Q4_K,
      GGML_TYPE_Q5_K,  GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS,
      GGML_TYPE_MXFP4, GGML_TYPE_F16,  GGML_TYPE_BF16,   GGML_TYPE_F32};
  return kTypes[static_cast<int>(type)];
}

struct Case {
  WeightType type;
  int64_t rows, columns;
};

class ProductError : public testing::TestWithParam<Case> {};

// What ggml's scalar product of one row and one token gives, activations rounded as ggml rounds
// them for this type.
std::vector<float> stock_product(const Case& c, const std::vector<uint8_t>& file,
                                 const std::vector<float>& values, int64_t tokens) {
  const auto* traits = ggml_get_type_traits_cpu(ggml_type_of(c.type));
  const auto* other = ggml_get_type_traits_cpu(traits->vec_dot_type);
  std::vector<uint8_t> rounded(ggml_row_size(traits->vec_dot_type, c.columns));
  std::vector<float> out;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* token = values.data() + t * c.columns;
    if (other->from_float) other->from_float(token, rounded.data(), c.columns);
    else std::memcpy(rounded.data(), token, rounded.size());  // F32 stays as it is
    for (int64_t row = 0; row < c.rows; ++row) {
      float sum = 0;
      traits->vec_dot(static_cast<int>(c.columns), &sum, 0,
                      file.data() + row * file_row_bytes(c.type, c.columns), 0, rounded.data(), 0,
                      1);
      out.push_back(sum);
    }
  }
  return out;
}

double root_mean_square(const std::vector<float>& got, const std::vector<double>& wanted) {
  double sum = 0;
  for (size_t i = 0; i < got.size(); ++i) sum += (got[i] - wanted[i]) * (got[i] - wanted[i]);
  return std::sqrt(sum / static_cast<double>(got.size()));
}

std::vector<uint8_t> quantised(const Case& c) {
  const auto values = random_values(c.rows * c.columns, 21);
  std::vector<uint8_t> file(static_cast<size_t>(c.rows * file_row_bytes(c.type, c.columns)));
  ggml_quantize_chunk(ggml_type_of(c.type), values.data(), file.data(), 0, c.rows, c.columns,
                      nullptr);
  return file;
}

std::vector<float> dequantised(const Case& c, const std::vector<uint8_t>& file) {
  std::vector<float> weights(static_cast<size_t>(c.rows * c.columns));
  if (c.type == WeightType::kF32) std::memcpy(weights.data(), file.data(), file.size());
  for (int64_t row = 0; c.type != WeightType::kF32 && row < c.rows; ++row) {
    ggml_get_type_traits(ggml_type_of(c.type))
        ->to_float(file.data() + row * file_row_bytes(c.type, c.columns),
                   weights.data() + row * c.columns, c.columns);
  }
  return weights;
}

TEST_P(ProductError, NoLargerThanStock) {
  const Case& c = GetParam();
  constexpr int64_t kTokens = 24;
  const auto file = quantised(c);
  const auto values = random_values(c.columns * kTokens, 22);
  const auto weights = dequantised(c, file);
  std::vector<double> wanted;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t row = 0; row < c.rows; ++row) {
      double sum = 0;
      for (int64_t k = 0; k < c.columns; ++k) {
        sum += static_cast<double>(weights[static_cast<size_t>(row * c.columns + k)]) *
               static_cast<double>(values[static_cast<size_t>(t * c.columns + k)]);
      }
      wanted.push_back(sum);
    }
  }
  const auto panels = packed(c.type, file, c.rows, c.columns);
  const Matrix matrix{c.type, c.rows, c.columns, panels.data()};
  const double size = root_mean_square(std::vector<float>(wanted.size()), wanted);
  const double stock = root_mean_square(stock_product(c, file, values, kTokens), wanted);
  for (int64_t threads = 1; threads <= 4; ++threads) {
    const double ours =
        root_mean_square(product(backend(), matrix, values, kTokens, threads), wanted);
    // Where both round the activations alike the errors are the same but for the last bit of fp32.
    // F32 rounds nothing: what is left is the order of the sum.
    const double bound = c.type == WeightType::kF32 ? 1e-6 * size : stock * 1.001;
    EXPECT_LE(ours, bound) << name_of(c.type) << " at " << threads << " threads";
    EXPECT_GT(stock, 0);
  }
  RecordProperty("stock", std::to_string(stock));
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (WeightType type : kAllTypes) {
    const int64_t unit = format_of(type).unit_columns();
    for (int64_t rows : {1, 16, 67}) all.push_back({type, rows, unit == kBlock ? 576 : 512});
    all.push_back({type, 33, unit == kBlock ? 32 * 27 : 2048});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Types, ProductError, testing::ValuesIn(cases()), [](const auto& about) {
  return std::string(name_of(about.param.type)) + "_" + std::to_string(about.param.rows) + "x" +
         std::to_string(about.param.columns);
});

}  // namespace
}  // namespace aurora::kernels
