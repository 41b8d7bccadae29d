#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>

#include "kernels/half.h"

namespace aurora::attention {
namespace {

struct Shape3 {
  int heads;
  int kv_heads;
  int dim;
  bool half = true;
};

struct Token {
  int sequence;
  int position;
  bool operator==(const Token&) const = default;
};
constexpr Token kEmpty = {-1, -1};

// Numbers that depend on the token, not on where it is kept.
float value_of(Token token, int kind, int head, int d) {
  uint64_t x =
      (((token.sequence * 100003ull + token.position) * 31 + kind) * 101 + head) * 1031 + d;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  x ^= x >> 31;
  const int steps = static_cast<int>(x % 4001) - 2000;
  return static_cast<float>(steps) / 1024.0f;  // exact in fp16
}

// Of a multiple of 1/1024 below 2 in size.
uint16_t to_half(float value) {
  if (value == 0) return 0;
  if (std::isnan(value)) return 0x7e00;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const int exponent = static_cast<int>((bits >> 23) & 255) - 112;
  return static_cast<uint16_t>(((bits >> 16) & 0x8000) | (exponent << 10) | ((bits >> 13) & 1023));
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
enum Kind { kQuery, kKey, kValue };

struct Options {
  int threads = 1;
  const AttentionKernels* kernels = &best_kernels();
  bool with_positions = true;
  bool real_threads = false;
  int window = 1 << 30;
  float softcap = 0;
  std::vector<float> sinks = {};
};

// A KV cache: which token each cell holds. Empty cells hold NaN, which must not show.
class Cache {
 public:
  Cache(Shape3 shape, std::vector<Token> cells) : shape_(shape), cells_(std::move(cells)) {
    const size_t element = shape.half ? 2 : 4;
    for (Kind kind : {kKey, kValue}) {
      auto& bytes = kind == kKey ? keys_ : values_;
      for (const Token token : cells_) {
        for (int head = 0; head < shape.kv_heads; ++head) {
          for (int d = 0; d < shape.dim; ++d) {
            const float value = token == kEmpty ? kNan : value_of(token, kind, head, d);
            const uint16_t half = to_half(value);
            const auto* at = shape.half ? reinterpret_cast<const std::byte*>(&half)
                                        : reinterpret_cast<const std::byte*>(&value);
            bytes.insert(bytes.end(), at, at + element);
          }
        }
      }
    }
  }

  bool sees(Token row, Token cell, int window) const {
    return cell.sequence == row.sequence && cell.position <= row.position &&
           cell.position > row.position - window;
  }

  std::vector<float> run(const std::vector<Token>& rows, const Options& options) const {
    std::vector<uint16_t> mask;
    for (const Token row : rows) {
      for (const Token cell : cells_) mask.push_back(sees(row, cell, options.window) ? 0 : 0xfc00);
    }
    std::vector<int32_t> positions;
    for (const Token cell : cells_) positions.push_back(cell.position);
    std::vector<float> queries;
    for (const Token row : rows) {
      for (int head = 0; head < shape_.heads; ++head) {
        for (int d = 0; d < shape_.dim; ++d) queries.push_back(value_of(row, kQuery, head, d));
      }
    }
    const int cell_count = static_cast<int>(cells_.size());
    const int row_count = static_cast<int>(rows.size());
    Plan plan;
    EXPECT_TRUE(make_plan({mask.data(), cells_.size(), 0, row_count, cell_count, 1,
                           options.with_positions ? positions.data() : nullptr},
                          shape_.heads / shape_.kv_heads, plan));
    std::vector<float> out(queries.size(), kNan);
    const size_t element = shape_.half ? 2 : 4;
    const size_t kv_row = shape_.kv_heads * shape_.dim * element;
    const size_t q_row = shape_.heads * shape_.dim * sizeof(float);
    Call call;
    call.queries = {reinterpret_cast<const std::byte*>(queries.data()), q_row,
                    shape_.dim * sizeof(float)};
    call.keys = {keys_.data(), kv_row, shape_.dim * element, 0, shape_.half};
    call.values = {values_.data(), kv_row, shape_.dim * element, 0, shape_.half};
    call.out = {reinterpret_cast<std::byte*>(out.data()), q_row, shape_.dim * sizeof(float)};
    call.sinks = options.sinks.empty() ? nullptr : options.sinks.data();
    call.kv_heads = shape_.kv_heads;
    call.query_rows = row_count;
    call.cells = cell_count;
    call.key_dim = call.value_dim = shape_.dim;
    call.scale = scale();
    call.softcap = options.softcap;
    call.plan = &plan;
    work_through(call, options);
    return out;
  }

  // softmax in double, straight from the definition.
  std::vector<double> reference(const std::vector<Token>& rows, const Options& options) const {
    std::vector<double> out;
    for (const Token row : rows) {
      for (int head = 0; head < shape_.heads; ++head) {
        const int kv_head = head / (shape_.heads / shape_.kv_heads);
        double sum = options.sinks.empty() ? 0 : std::exp(double(options.sinks[head]));
        std::vector<double> values(shape_.dim);
        for (const Token cell : cells_) {
          if (!sees(row, cell, options.window)) continue;
          double score = 0;
          for (int d = 0; d < shape_.dim; ++d) {
            score += double(value_of(row, kQuery, head, d)) * value_of(cell, kKey, kv_head, d);
          }
          score *= scale();
          if (options.softcap > 0) score = options.softcap * std::tanh(score / options.softcap);
          sum += std::exp(score);
          for (int d = 0; d < shape_.dim; ++d) {
            values[d] += std::exp(score) * value_of(cell, kValue, kv_head, d);
          }
        }
        for (const double value : values) out.push_back(sum == 0 ? 0 : value / sum);
      }
    }
    return out;
  }

  size_t row_floats() const { return static_cast<size_t>(shape_.heads) * shape_.dim; }

 private:
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.dim)); }

  static void work_through(const Call& call, const Options& options) {
    const int pairs = call.query_rows * call.plan->heads_per_kv;
    std::vector<std::byte> work(
        work_bytes({pairs, call.cells, call.key_dim, call.value_dim}, options.threads));
    const auto worker = [&](int index) { return Worker{index, options.threads, work.data()}; };
    if (options.real_threads) {
      std::barrier meet(options.threads);
      std::vector<std::jthread> threads;
      for (int i = 0; i < options.threads; ++i) {
        threads.emplace_back([&, i] {
          const bool shared = attend(call, *options.kernels, worker(i));
          meet.arrive_and_wait();
          if (shared) attend_shared(call, *options.kernels, worker(i));
        });
      }
      return;
    }
    bool shared = false;
    for (int i = 0; i < options.threads; ++i) shared = attend(call, *options.kernels, worker(i));
    for (int i = 0; shared && i < options.threads; ++i)
      attend_shared(call, *options.kernels, worker(i));
  }

  Shape3 shape_;
  std::vector<Token> cells_;
  std::vector<std::byte> keys_, values_;
};

std::vector<Token> tokens(int sequence, int first, int count) {
  std::vector<Token> made;
  for (int i = 0; i < count; ++i) made.push_back({sequence, first + i});
  return made;
}

std::vector<Token> padded(std::vector<Token> cells, size_t multiple = 256) {
  while (cells.size() % multiple != 0) cells.push_back(kEmpty);
  return cells;
}

// Sequence 0 beside two others and holes, in no order.
std::vector<Token> scattered(int count, int others, uint64_t seed) {
  std::vector<Token> cells = tokens(0, 0, count);
  for (int other = 1; other <= 2; ++other) {
    const std::vector<Token> more = tokens(other, 0, others);
    cells.insert(cells.end(), more.begin(), more.end());
  }
  cells.insert(cells.end(), 13, kEmpty);
  std::shuffle(cells.begin(), cells.end(), std::mt19937_64(seed));
  return padded(cells);
}

std::string bits_of(const std::vector<float>& values, size_t row, size_t row_floats) {
  return {reinterpret_cast<const char*>(values.data() + row * row_floats),
          row_floats * sizeof(float)};
}

// The last `count` rows of sequence 0, each alone, one thread, cells in order, no padding.
std::vector<std::string> alone(Shape3 shape, int context, int count) {
  std::vector<std::string> rows;
  for (int i = context - count; i < context; ++i) {
    const Cache cache(shape, tokens(0, 0, i + 1));
    rows.push_back(bits_of(cache.run({{0, i}}, {}), 0, cache.row_floats()));
  }
  return rows;
}

void expect_rows(const std::vector<std::string>& expected, const Cache& cache,
                 const std::vector<Token>& rows, int context, const Options& options) {
  const std::vector<float> out = cache.run(rows, options);
  for (size_t row = 0; row < rows.size(); ++row) {
    if (rows[row].sequence != 0) continue;
    const size_t index = expected.size() - (context - rows[row].position);
    ASSERT_EQ(bits_of(out, row, cache.row_floats()) == expected[index], true)
        << "row " << row << " of " << rows.size() << ", " << options.threads << " threads, context "
        << context;
  }
}

const Shape3 kShapes[] = {{2, 2, 64}, {9, 3, 64},        {12, 2, 128},
                          {8, 1, 80}, {3, 1, 96, false}, {6, 1, 256}};

TEST(Attention, IsSoftmaxAttention) {
  for (const Shape3 shape : kShapes) {
    for (const int context : {1, 7, 256, 700}) {
      const Cache cache(shape, padded(tokens(0, 0, context)));
      const std::vector<Token> rows = tokens(0, std::max(0, context - 5), std::min(5, context));
      const std::vector<float> out = cache.run(rows, {.threads = 2});
      const std::vector<double> expected = cache.reference(rows, {});
      for (size_t i = 0; i < out.size(); ++i)
        ASSERT_NEAR(out[i], expected[i], 2e-6) << i << " " << context;
    }
  }
}

TEST(Attention, SinksAndSoftcap) {
  const Shape3 shape = {6, 2, 64};
  const Cache cache(shape, padded(tokens(0, 0, 150)));
  for (const float softcap : {0.0f, 1.5f, 50.0f}) {
    const Options options = {.threads = 3, .softcap = softcap, .sinks = {-1, 0, 0.5, 1, 2, 9}};
    const std::vector<Token> rows = tokens(0, 0, 150);
    const std::vector<float> out = cache.run(rows, options);
    const std::vector<double> expected = cache.reference(rows, options);
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], 4e-6) << i;
  }
}

TEST(Attention, ARowIsTheSameBitsInEveryBatchAndAtAnyThreadCount) {
  for (const Shape3 shape : kShapes) {
    for (const int context : {1, 7, 256, 700}) {
      const int most = std::min(context, 64);
      const std::vector<std::string> expected = alone(shape, context, most);
      const Cache cache(shape, padded(tokens(0, 0, context)));
      for (const int n : {1, 2, 3, 5, 8, 16, 64}) {
        if (n > context) continue;
        for (int threads = 1; threads <= 4; ++threads) {
          expect_rows(expected, cache, tokens(0, context - n, n), context, {.threads = threads});
        }
      }
    }
  }
}

TEST(Attention, ARowIsTheSameBitsWhereverItsCellsAre) {
  for (const Shape3 shape : kShapes) {
    for (const int context : {7, 256, 700}) {
      const int most = std::min(context, 16);
      const std::vector<std::string> expected = alone(shape, context, most);
      for (const uint64_t seed : {1, 2}) {
        const Cache cache(shape, scattered(context, 150, seed));
        for (const int n : {1, 3, 8, 16}) {
          if (n > context) continue;
          expect_rows(expected, cache, tokens(0, context - n, n), context, {.threads = 1 + n % 3});
        }
      }
    }
  }
}

TEST(Attention, LongContext) {
  const Shape3 shape = {6, 2, 64};
  const std::vector<std::string> expected = alone(shape, 4096, 16);
  const Cache in_order(shape, padded(tokens(0, 0, 4096)));
  const Cache mixed(shape, scattered(4096, 300, 3));
  for (const int n : {1, 2, 5, 16}) {
    for (int threads = 1; threads <= 4; ++threads) {
      expect_rows(expected, in_order, tokens(0, 4096 - n, n), 4096, {.threads = threads});
      expect_rows(expected, mixed, tokens(0, 4096 - n, n), 4096, {.threads = threads});
    }
  }
}

TEST(Attention, ARowIsTheSameBitsBesideOtherSequences) {
  const Shape3 shape = {9, 3, 64};
  const std::vector<std::string> expected = alone(shape, 200, 8);
  const Cache cache(shape, scattered(200, 150, 5));
  std::vector<Token> blocks = tokens(1, 146, 4);
  for (const Token token : tokens(0, 192, 8)) blocks.push_back(token);
  for (const Token token : tokens(2, 140, 10)) blocks.push_back(token);
  std::vector<Token> shuffled = blocks;
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937_64(7));
  for (int threads = 1; threads <= 4; ++threads) {
    expect_rows(expected, cache, blocks, 200, {.threads = threads});
    expect_rows(expected, cache, shuffled, 200, {.threads = threads});
    expect_rows(expected, cache, shuffled, 200, {.threads = threads, .real_threads = true});
  }
}

TEST(Attention, ChunksOfAPromptDoNotShow) {
  const Shape3 shape = {6, 1, 64};
  const std::vector<std::string> expected = alone(shape, 300, 300);
  for (const int chunk : {300, 128, 64, 17, 3}) {
    for (int first = 0; first < 300; first += chunk) {
      const int count = std::min(chunk, 300 - first);
      const Cache cache(shape, padded(tokens(0, 0, first + count)));
      expect_rows(expected, cache, tokens(0, first, count), 300, {.threads = 1 + chunk % 2});
    }
  }
}

TEST(Attention, BothInstructionSetsGiveTheSameBits) {
  const AttentionKernels* avx2 = avx2_kernels();
  if (avx2 == nullptr) GTEST_SKIP() << "no AVX2";
  for (const Shape3 shape : kShapes) {
    for (const int n : {1, 2, 3, 7, 16}) {
      const Cache cache(shape, scattered(333, 40, 11));
      for (const float softcap : {0.0f, 30.0f}) {
        const std::vector<Token> rows = tokens(0, 333 - n, n);
        const std::vector<float> fast = cache.run(rows, {.kernels = avx2, .softcap = softcap});
        const std::vector<float> plain =
            cache.run(rows, {.threads = 2, .kernels = &portable_kernels(), .softcap = softcap});
        ASSERT_EQ(std::memcmp(fast.data(), plain.data(), fast.size() * sizeof(float)), 0);
      }
    }
  }
}

// Each row of a sliding window begins with another key: same bits, fewer rows share a pass.
TEST(Attention, SlidingWindow) {
  const Shape3 shape = {6, 2, 64};
  const Cache in_order(shape, padded(tokens(0, 0, 400)));
  const Cache mixed(shape, scattered(400, 90, 13));
  const std::vector<Token> rows = tokens(0, 380, 20);
  const std::vector<float> together = in_order.run(rows, {.threads = 2, .window = 100});
  EXPECT_EQ(together, mixed.run(rows, {.threads = 3, .window = 100}));
  const std::vector<double> expected = in_order.reference(rows, {.window = 100});
  for (size_t i = 0; i < together.size(); ++i) ASSERT_NEAR(together[i], expected[i], 2e-6);
  for (size_t row = 0; row < rows.size(); ++row) {
    const std::vector<float> one = in_order.run({rows[row]}, {.window = 100});
    EXPECT_EQ(bits_of(one, 0, in_order.row_floats()),
              bits_of(together, row, in_order.row_floats()));
  }
}

TEST(Attention, ARowThatSeesNothingIsZero) {
  const Cache cache({3, 1, 64}, padded(tokens(0, 0, 9)));
  const std::vector<float> out = cache.run({{5, 3}, {0, 8}}, {.threads = 2});
  for (int i = 0; i < 3 * 64; ++i) EXPECT_EQ(out[i], 0.0f);
  EXPECT_NE(out[3 * 64], 0.0f);
}

TEST(Attention, WithoutPositionsCellsAreInOrder) {
  const Cache cache({3, 1, 64}, padded(tokens(0, 0, 300)));
  const std::vector<Token> rows = tokens(0, 290, 10);
  EXPECT_EQ(cache.run(rows, {}), cache.run(rows, {.with_positions = false}));
}

TEST(AttentionPlan, RowsOfOneSequenceShareOneList) {
  const std::vector<uint16_t> mask = {0,      0xfc00, 0,      0xfc00,  // sequence a
                                      0xfc00, 0,      0xfc00, 0xfc00,  // sequence b
                                      0x8000, 0xfc00, 0,      0};      // a again, one key more
  Plan plan;
  ASSERT_TRUE(make_plan({mask.data(), 4, 0, 3, 4}, 3, plan));
  ASSERT_EQ(plan.groups.size(), 2u);
  EXPECT_EQ(plan.groups[0].cells, (std::vector<int32_t>{0, 2, 3}));
  ASSERT_EQ(plan.groups[0].rows.size(), 2u);
  EXPECT_EQ(plan.groups[0].rows[0].keys, 2);
  EXPECT_EQ(plan.groups[0].rows[1].query, 2);
  EXPECT_EQ(plan.groups[0].rows[1].keys, 3);
}

TEST(AttentionPlan, ANewCellBeforeTheOthersIsNoPrefix) {
  const std::vector<uint16_t> mask = {0xfc00, 0, 0, 0, 0, 0};
  Plan plan;
  ASSERT_TRUE(make_plan({mask.data(), 3, 0, 2, 3}, 1, plan));
  EXPECT_EQ(plan.groups.size(), 2u);
  const std::vector<int32_t> positions = {9, 1, 2};
  ASSERT_TRUE(make_plan({mask.data(), 3, 0, 2, 3, 1, positions.data()}, 1, plan));
  ASSERT_EQ(plan.groups.size(), 1u);
  EXPECT_EQ(plan.groups[0].cells, (std::vector<int32_t>{1, 2, 0}));
}

TEST(AttentionPlan, OtherMaskValuesAreRefused) {
  Plan plan;
  for (const uint16_t value : {0x3c00, 0xbc00, 0x7c00, 0x7e00, 0x0001}) {
    const std::vector<uint16_t> first = {value, 0};
    EXPECT_FALSE(make_plan({first.data(), 2, 0, 1, 2}, 1, plan));
    const std::vector<uint16_t> second = {0, 0xfc00, 0, value};
    EXPECT_FALSE(make_plan({second.data(), 2, 0, 2, 2}, 1, plan));
  }
}

TEST(AttentionPlan, StreamsHaveGroupsOfTheirOwn) {
  Plan plan;
  ASSERT_TRUE(make_plan({nullptr, 0, 0, 2, 5, 3}, 4, plan));
  EXPECT_EQ(plan.groups.size(), 3u);
  EXPECT_EQ(plan.tiles.size(), 3u);
  EXPECT_EQ(plan.groups[2].stream, 2);
  EXPECT_EQ(plan.tiles[2].count, 8);
}

}  // namespace
}  // namespace aurora::attention
