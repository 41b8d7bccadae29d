// One arithmetic: every backend, batch size and thread count gives the same bits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "random_matrix.h"

namespace aurora::kernels {
namespace {

class ProductBits : public testing::TestWithParam<WeightType> {
 protected:
  static constexpr int64_t kRows = 37;  // two whole panels and a part of one
  int64_t columns() const {
    return 3 * format_of(GetParam()).unit_columns() + (is_k_type() ? 0 : 64);
  }
  bool is_k_type() const { return format_of(GetParam()).header_bytes > 0; }
};

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::memcmp(&a[i], &b[i], sizeof(float)), 0)
        << "at " << i << ": " << a[i] << " and " << b[i];
  }
}

TEST_P(ProductBits, EveryBackendEqualsThePortableOne) {
  const auto weights =
      packed(GetParam(), random_file(GetParam(), kRows, columns(), 1), kRows, columns());
  const Matrix matrix{GetParam(), kRows, columns(), weights.data()};
  // All sizes of groups and what is left over of tiles: 64 is two full ones, 65 more than that.
  for (const int64_t tokens :
       {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 24, 31, 32, 33, 64, 65}) {
    const auto values = random_values(columns() * tokens, 2);
    const auto wanted = product(portable_backend(), matrix, values, tokens);
    for (const Backend* backend : usable_backends()) {
      SCOPED_TRACE(std::string(backend->name) + ", tokens " + std::to_string(tokens));
      expect_same_bits(product(*backend, matrix, values, tokens), wanted);
    }
  }
}

TEST_P(ProductBits, ATokenIsTheSameAloneAndInABatchAndAtAnyThreadCount) {
  const auto weights =
      packed(GetParam(), random_file(GetParam(), kRows, columns(), 3), kRows, columns());
  const Matrix matrix{GetParam(), kRows, columns(), weights.data()};
  constexpr int64_t kTokens = 43;
  const auto values = random_values(columns() * kTokens, 4);
  const auto batch = product(backend(), matrix, values, kTokens);
  for (int64_t threads : {2, 3, 4})
    expect_same_bits(product(backend(), matrix, values, kTokens, threads), batch);
  for (int64_t t = 0; t < kTokens; ++t) {
    const std::vector<float> one(values.begin() + t * columns(),
                                 values.begin() + (t + 1) * columns());
    const std::vector<float> row(batch.begin() + t * kRows, batch.begin() + (t + 1) * kRows);
    expect_same_bits(product(backend(), matrix, one, 1), row);
  }
}

TEST_P(ProductBits, ExtremeQuantsDoNotOverflow) {
  for (uint8_t fill : {0x00, 0xff}) {
    auto file = random_file(GetParam(), kRows, columns(), 5);
    if (is_float(GetParam())) continue;
    const auto keep = file;
    std::fill(file.begin(), file.end(), fill);
    const auto unit =
        static_cast<size_t>(file_row_bytes(GetParam(), format_of(GetParam()).unit_columns()));
    for (size_t at = 0; at < file.size(); at += unit) {
      if (GetParam() == WeightType::kMXFP4) file[at] = keep[at];
      const HalfOffsets halves = half_offsets(GetParam());
      for (int o : {halves.first, halves.second}) {
        if (o >= 0)
          std::memcpy(&file[at + static_cast<size_t>(o)], &keep[at + static_cast<size_t>(o)], 2);
      }
    }
    const auto weights = packed(GetParam(), file, kRows, columns());
    const Matrix matrix{GetParam(), kRows, columns(), weights.data()};
    for (float sign : {1.0f, -1.0f}) {
      const std::vector<float> values(static_cast<size_t>(columns() * 13), sign * 3.0f);
      for (int64_t tokens : {3, 8, 13}) {
        const std::vector<float> some(values.begin(), values.begin() + tokens * columns());
        const auto wanted = product(portable_backend(), matrix, some, tokens);
        for (const Backend* backend : usable_backends()) {
          expect_same_bits(product(*backend, matrix, some, tokens), wanted);
        }
      }
    }
  }
}

TEST_P(ProductBits, WhatIsNotFiniteStaysInItsToken) {
  const auto weights =
      packed(GetParam(), random_file(GetParam(), kRows, columns(), 6), kRows, columns());
  const Matrix matrix{GetParam(), kRows, columns(), weights.data()};
  auto values = random_values(columns() * 3, 7);
  const auto clean = product(backend(), matrix, values, 3);
  values[static_cast<size_t>(columns() + 5)] = NAN;
  for (const Backend* backend : usable_backends()) {
    const auto dirty = product(*backend, matrix, values, 3);
    for (int64_t row = 0; row < kRows; ++row) {
      EXPECT_EQ(dirty[static_cast<size_t>(row)], clean[static_cast<size_t>(row)]);
      EXPECT_TRUE(std::isnan(dirty[static_cast<size_t>(kRows + row)])) << backend->name;
      EXPECT_EQ(dirty[static_cast<size_t>(2 * kRows + row)],
                clean[static_cast<size_t>(2 * kRows + row)]);
    }
  }
}

TEST(ActivationRounding, SmallAndZeroBlocksRoundAlikeEverywhere) {
  for (float size : {0.0f, 1e-45f, 1e-38f, 1e-36f, 1e-30f, 1.0f, 1e30f}) {
    auto values = random_values(kBlock, 8);
    for (float& value : values) value *= size;
    ActivationBlock wanted{};
    quantize_block(values.data(), wanted);
    for (WeightType type : kAllTypes) {
      if (is_float(type)) continue;
      set_start(type, wanted);
      for (const Backend* backend : usable_backends()) {
        ActivationBlock got{};
        backend->quantize(type, values.data(), 0, 1, 1, &got);
        EXPECT_EQ(std::memcmp(&got, &wanted, sizeof got), 0)
            << backend->name << ", " << name_of(type) << ", size " << size;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ProductBits, testing::ValuesIn(kAllTypes),
                         [](const auto& about) { return std::string(name_of(about.param)); });

}  // namespace
}  // namespace aurora::kernels
