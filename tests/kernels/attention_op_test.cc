// The operation in a ggml graph: beside llama.cpp's own, and what the hooks must hold.
#include "kernels/attention_op.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "ggml-cpu.h"
#include "ggml.h"

namespace aurora::attention {
namespace {

struct FreeGgml {
  void operator()(ggml_context* context) const { ggml_free(context); }
};

struct Case {
  int heads = 6;
  int kv_heads = 2;
  int dim = 64;
  int rows = 4;
  int cells = 512;
  int streams = 1;
  float max_bias = 0;
  float softcap = 0;
  bool sinks = false;
  ggml_type type = GGML_TYPE_F16;
};

constexpr uint16_t kHidden = 0xfc00;

class Operation {
 public:
  explicit Operation(const Case& shape) : shape_(shape) {
    context_.reset(ggml_init({size_t{64} << 20, nullptr, false}));
    queries = ggml_new_tensor_4d(context_.get(), GGML_TYPE_F32, shape.dim, shape.heads, shape.rows,
                                 shape.streams);
    keys = ggml_new_tensor_4d(context_.get(), shape.type, shape.dim, shape.kv_heads, shape.cells,
                              shape.streams);
    values = ggml_new_tensor_4d(context_.get(), shape.type, shape.dim, shape.kv_heads, shape.cells,
                                shape.streams);
    mask = ggml_new_tensor_4d(context_.get(), GGML_TYPE_F16, shape.cells, shape.rows, 1,
                              shape.streams);
    std::mt19937 random(3);
    for (ggml_tensor* tensor : {queries, keys, values}) {
      for (int64_t i = 0; i < ggml_nelements(tensor); ++i) {
        ggml_set_f32_1d(tensor, static_cast<int>(i),
                        static_cast<float>(random() % 4001) / 1000.0f - 2.0f);
      }
    }
    see_to_row_end();
    result_ = ggml_flash_attn_ext(context_.get(), turned(queries), turned(keys), turned(values),
                                  mask, 0.125f, shape.max_bias, shape.softcap);
    if (shape.sinks) {
      ggml_tensor* sinks = ggml_new_tensor_1d(context_.get(), GGML_TYPE_F32, shape.heads);
      for (int i = 0; i < shape.heads; ++i) ggml_set_f32_1d(sinks, i, static_cast<float>(i) - 2.0f);
      ggml_flash_attn_ext_add_sinks(result_, sinks);
    }
    graph_ = ggml_new_graph(context_.get());
    ggml_build_forward_expand(graph_, result_);
  }

  // Row i of each stream sees the cells before the last rows - i - 1 of them.
  void see_to_row_end() {
    for (int stream = 0; stream < shape_.streams; ++stream) {
      for (int row = 0; row < shape_.rows; ++row) {
        for (int cell = 0; cell < shape_.cells; ++cell) {
          see(stream, row, cell, cell <= shape_.cells - shape_.rows + row);
        }
      }
    }
  }

  void see(int stream, int row, int cell, bool visible) {
    const size_t at = (static_cast<size_t>(stream) * shape_.rows + row) * shape_.cells + cell;
    static_cast<uint16_t*>(mask->data)[at] = visible ? 0 : kHidden;
  }

  void swap_cells(int a, int b) {
    for (ggml_tensor* tensor : {keys, values}) {
      auto* data = static_cast<char*>(tensor->data);
      std::swap_ranges(data + a * tensor->nb[2], data + (a + 1) * tensor->nb[2],
                       data + b * tensor->nb[2]);
    }
  }

  std::vector<float> run(int threads) {
    ggml_cplan plan = ggml_graph_plan(graph_, threads, nullptr);
    std::vector<uint8_t> work(plan.work_size);
    plan.work_data = work.data();
    ggml_graph_compute(graph_, &plan);
    const auto* data = static_cast<const float*>(result_->data);
    return {data, data + ggml_nelements(result_)};
  }

  // The result by its definition, in double.
  std::vector<double> reference() const {
    std::vector<double> out;
    for (int stream = 0; stream < shape_.streams; ++stream) {
      for (int row = 0; row < shape_.rows; ++row) {
        for (int head = 0; head < shape_.heads; ++head) add_reference(stream, row, head, out);
      }
    }
    return out;
  }

  ggml_tensor* queries;
  ggml_tensor* keys;
  ggml_tensor* values;
  ggml_tensor* mask;

 private:
  void add_reference(int stream, int row, int head, std::vector<double>& out) const {
    const int kv_head = head / (shape_.heads / shape_.kv_heads);
    const size_t mask_row = (static_cast<size_t>(stream) * shape_.rows + row) * shape_.cells;
    double sum = shape_.sinks ? std::exp(head - 2.0) : 0.0;
    std::vector<double> total(shape_.dim);
    for (int cell = 0; cell < shape_.cells; ++cell) {
      if (static_cast<const uint16_t*>(mask->data)[mask_row + cell] == kHidden) continue;
      double score = 0;
      for (int d = 0; d < shape_.dim; ++d) {
        score += 0.125 * ggml_get_f32_nd(queries, d, head, row, stream) *
                 ggml_get_f32_nd(keys, d, kv_head, cell, stream);
      }
      if (shape_.softcap > 0) score = shape_.softcap * std::tanh(score / shape_.softcap);
      sum += std::exp(score);
      for (int d = 0; d < shape_.dim; ++d) {
        total[d] += std::exp(score) * ggml_get_f32_nd(values, d, kv_head, cell, stream);
      }
    }
    for (const double value : total) out.push_back(value / sum);
  }

  ggml_tensor* turned(ggml_tensor* tensor) {
    return ggml_permute(context_.get(), tensor, 0, 2, 1, 3);
  }

  Case shape_;
  std::unique_ptr<ggml_context, FreeGgml> context_;
  ggml_tensor* result_;
  ggml_cgraph* graph_;
};

double error_max(const std::vector<float>& values, const std::vector<double>& expected) {
  double most = 0;
  for (size_t i = 0; i < values.size(); ++i)
    most = std::max(most, std::abs(values[i] - expected[i]));
  return most;
}

class AttentionOp : public ::testing::Test {
 protected:
  void SetUp() override {
    ggml_cpu_init();
    install_attention();
  }
  void TearDown() override { uninstall_attention(); }
};

TEST_F(AttentionOp, IsCloserToTheDefinitionThanLlamaCppsOwn) {
  const Case cases[] = {{},
                        {.heads = 9, .kv_heads = 3, .rows = 1},
                        {.heads = 12, .kv_heads = 2, .dim = 128, .rows = 16, .cells = 256},
                        {.rows = 80, .cells = 768},
                        {.rows = 3, .streams = 3},
                        {.softcap = 20, .sinks = true},
                        {.rows = 1, .cells = 256, .sinks = true},
                        {.rows = 5, .type = GGML_TYPE_F32}};
  for (const Case& shape : cases) {
    Operation operation(shape);
    const std::vector<double> expected = operation.reference();
    for (const int threads : {1, 2, 3}) {
      install_attention();
      const std::vector<float> ours = operation.run(threads);
      uninstall_attention();
      const std::vector<float> theirs = operation.run(threads);
      const double error = error_max(ours, expected);
      EXPECT_LT(error, 3e-6);
      EXPECT_LT(error, error_max(theirs, expected));
    }
  }
}

TEST_F(AttentionOp, ABatchGivesTheBitsOfItsRows) {
  Operation batch({.rows = 8});
  const std::vector<float> together = batch.run(3);
  for (int row = 0; row < 8; ++row) {
    Operation alone({.rows = 1});
    std::memcpy(alone.queries->data,
                static_cast<char*>(batch.queries->data) + row * batch.queries->nb[2],
                batch.queries->nb[2]);
    std::memcpy(alone.keys->data, batch.keys->data, ggml_nbytes(batch.keys));
    std::memcpy(alone.values->data, batch.values->data, ggml_nbytes(batch.values));
    for (int cell = 512 - 8 + row + 1; cell < 512; ++cell) alone.see(0, 0, cell, false);
    const std::vector<float> one = alone.run(1);
    EXPECT_EQ(
        std::memcmp(one.data(), together.data() + row * one.size(), one.size() * sizeof(float)), 0);
  }
}

TEST_F(AttentionOp, PositionsUndoTheOrderOfCells) {
  Operation in_order({.rows = 1});
  const std::vector<float> expected = in_order.run(2);
  Operation mixed({.rows = 1});
  std::vector<int32_t> positions(512);
  for (int cell = 0; cell < 512; ++cell) positions[cell] = cell;
  std::mt19937 random(4);
  for (int i = 0; i < 300; ++i) {
    const int a = static_cast<int>(random() % 512), b = static_cast<int>(random() % 512);
    if (a == b) continue;
    mixed.swap_cells(a, b);
    std::swap(positions[a], positions[b]);
  }
  EXPECT_NE(mixed.run(2), expected);
  aurora_attention_positions(mixed.mask->data, positions.data(), 512, 1);
  EXPECT_EQ(mixed.run(2), expected);
  aurora_attention_positions(mixed.mask->data, positions.data(), 256,
                             2);  // of another shape: not used
  EXPECT_NE(mixed.run(2), expected);
}

TEST_F(AttentionOp, AMaskThatChangesInPlaceIsSeen) {
  Operation operation({.rows = 2});
  const std::vector<float> before = operation.run(2);
  EXPECT_EQ(operation.run(2), before);
  operation.see(0, 1, 17, false);
  const std::vector<float> after = operation.run(2);
  EXPECT_EQ(std::memcmp(before.data(), after.data(), before.size() / 2 * sizeof(float)), 0);
  EXPECT_NE(before, after);
  operation.see(0, 1, 17, true);
  EXPECT_EQ(operation.run(2), before);
}

TEST_F(AttentionOp, WhatItDoesNotTakeRunsInLlamaCpp) {
  Operation alibi({.max_bias = 8});
  const std::vector<float> ours = alibi.run(2);
  Operation odd_mask({.rows = 2});
  static_cast<uint16_t*>(odd_mask.mask->data)[5] = 0x3c00;  // 1
  const std::vector<float> ours_odd = odd_mask.run(2);
  uninstall_attention();
  EXPECT_EQ(ours, alibi.run(2));
  EXPECT_EQ(ours_odd, odd_mask.run(2));
}

}  // namespace
}  // namespace aurora::attention
