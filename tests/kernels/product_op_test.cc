// The operations in a ggml graph, on weights in our buffer: the bits of the plain product, for a
// matrix and for a mixture of experts.
#include "kernels/product_op.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "kernels/kernels.h"
#include "random_matrix.h"

extern ggml_backend_buffer_type_t (*aurora_extra_buffer_type)();

namespace aurora::kernels {
namespace {

struct FreeGgml {
  void operator()(ggml_context* context) const { ggml_free(context); }
  void operator()(ggml_backend_buffer* buffer) const { ggml_backend_buffer_free(buffer); }
};

ggml_type ggml_type_of(WeightType type) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    if (weight_type(static_cast<ggml_type>(i)) == type) return static_cast<ggml_type>(i);
  }
  return GGML_TYPE_COUNT;
}

struct Shape {
  WeightType type = WeightType::kQ4_K;
  int64_t rows = 37, columns = 512, experts = 5, choices = 2, tokens = 9;
  bool row_of_choice = false;  // each choice has a row of its own, as behind the first matrices
};

class Mixture {
 public:
  explicit Mixture(const Shape& shape) : shape_(shape) {
    install();
    context_.reset(ggml_init({size_t{16} << 20, nullptr, true}));
    weights_ = ggml_new_tensor_3d(context_.get(), ggml_type_of(shape.type), shape.columns,
                                  shape.rows, shape.experts);
    buffer_.reset(
        ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), aurora_extra_buffer_type()));
    for (int64_t expert = 0; expert < shape.experts; ++expert) {
      const auto file =
          random_file(shape.type, shape.rows, shape.columns, static_cast<unsigned>(expert) + 1);
      files_.insert(files_.end(), file.begin(), file.end());
    }
    ggml_backend_tensor_set(weights_, files_.data(), 0, files_.size());
    values_ = random_values(shape.columns * rows_in() * shape.tokens, 77);
    std::mt19937 random(9);
    for (int64_t i = 0; i < shape.choices * shape.tokens; ++i)
      ids_.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(shape.experts)));
  }

  int64_t rows_in() const { return shape_.row_of_choice ? shape_.choices : 1; }

  // What ggml's graph gives: [token][choice][row].
  std::vector<float> graph(int threads) {
    const std::unique_ptr<ggml_context, FreeGgml> context(
        ggml_init({size_t{64} << 20, nullptr, false}));
    ggml_tensor* in =
        ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, shape_.columns, rows_in(), shape_.tokens);
    ggml_tensor* ids =
        ggml_new_tensor_2d(context.get(), GGML_TYPE_I32, shape_.choices, shape_.tokens);
    std::memcpy(in->data, values_.data(), ggml_nbytes(in));
    std::memcpy(ids->data, ids_.data(), ggml_nbytes(ids));
    ggml_tensor* out = ggml_mul_mat_id(context.get(), weights_, in, ids);
    ggml_cgraph* graph = ggml_new_graph(context.get());
    ggml_build_forward_expand(graph, out);
    EXPECT_EQ(ggml_graph_compute_with_ctx(context.get(), graph, threads), GGML_STATUS_SUCCESS);
    const auto* data = static_cast<const float*>(out->data);
    return {data, data + ggml_nelements(out)};
  }

  // The same from the portable product, one row at a time.
  std::vector<float> alone() const {
    std::vector<float> out;
    const size_t file_bytes = files_.size() / static_cast<size_t>(shape_.experts);
    for (int64_t i = 0; i < shape_.choices * shape_.tokens; ++i) {
      const int64_t token = i / shape_.choices, choice = i % shape_.choices;
      const auto file =
          files_.begin() + static_cast<int64_t>(file_bytes) * ids_[static_cast<size_t>(i)];
      const auto panels = packed(shape_.type, {file, file + static_cast<int64_t>(file_bytes)},
                                 shape_.rows, shape_.columns);
      const auto values =
          values_.begin() + (token * rows_in() + choice % rows_in()) * shape_.columns;
      const auto row =
          product(portable_backend(), {shape_.type, shape_.rows, shape_.columns, panels.data()},
                  {values, values + shape_.columns}, 1);
      out.insert(out.end(), row.begin(), row.end());
    }
    return out;
  }

 private:
  Shape shape_;
  std::unique_ptr<ggml_context, FreeGgml> context_;
  ggml_tensor* weights_;
  std::unique_ptr<ggml_backend_buffer, FreeGgml> buffer_;
  std::vector<uint8_t> files_;
  std::vector<float> values_;
  std::vector<int32_t> ids_;
};

void expect_same_bits(const std::vector<float>& got, const std::vector<float>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0);
}

TEST(ExpertProduct, EveryTypeGivesTheBitsOfARowAlone) {
  for (const WeightType type : kAllTypes) {
    for (const bool row_of_choice : {false, true}) {
      SCOPED_TRACE(std::string(name_of(type)) + (row_of_choice ? ", a row a choice" : ""));
      Mixture mixture({.type = type, .row_of_choice = row_of_choice});
      expect_same_bits(mixture.graph(2), mixture.alone());
    }
  }
}

TEST(ExpertProduct, AnyNumberOfTokensExpertsAndThreads) {
  for (const int64_t tokens : {1, 2, 8, 33, 70}) {
    for (const auto& [experts, choices] : {std::pair{1, 1}, {2, 2}, {64, 8}}) {
      Mixture mixture({.experts = experts, .choices = choices, .tokens = tokens});
      const auto wanted = mixture.alone();
      for (const int threads : {1, 2, 3}) {
        SCOPED_TRACE(std::to_string(tokens) + " tokens, " + std::to_string(experts) +
                     " experts, threads " + std::to_string(threads));
        expect_same_bits(mixture.graph(threads), wanted);
      }
    }
  }
}

TEST(ProductOp, SaysWhatItTakes) {
  const std::unique_ptr<ggml_context, FreeGgml> context(
      ggml_init({size_t{1} << 20, nullptr, true}));
  const auto weights = [&](ggml_type type, int64_t columns, int64_t rows, int64_t experts) {
    return ggml_new_tensor_3d(context.get(), type, columns, rows, experts);
  };
  const auto plain = [&](ggml_tensor* matrix) {
    ggml_tensor* in =
        ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, matrix->ne[0], 3, matrix->ne[2]);
    return computes(ggml_mul_mat(context.get(), matrix, in));
  };
  EXPECT_TRUE(plain(weights(GGML_TYPE_Q4_K, 256, 16, 1)));
  EXPECT_TRUE(plain(weights(GGML_TYPE_F32, 32, 16, 1)));
  EXPECT_FALSE(plain(weights(GGML_TYPE_F32, 40, 16, 1)));    // no whole blocks
  EXPECT_FALSE(plain(weights(GGML_TYPE_Q4_K, 256, 16, 4)));  // matrices side by side, no experts
  EXPECT_FALSE(plain(weights(GGML_TYPE_TQ1_0, 256, 16, 1)));
}

}  // namespace
}  // namespace aurora::kernels
