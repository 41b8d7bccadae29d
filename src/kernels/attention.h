// Attention of a few query rows over a KV cache, softmax(scale q K') V, whose result for one row is
// the same bits whatever stands beside it: other rows, other sequences, padding, threads, the cells
// that hold its keys.
//
// The order of sums is a function of the row's own visible keys in position order:
//   block b    keys 64 b ... 64 b + 63: m = max score, p = 2^(s - m), l = sum p, a = sum p v, by
//   key from first to last
//              (scores and l over 8 lanes, lane = dimension or key mod 8, lanes added as in
//              attention_kernels.h)
//   tree       blocks 2^n i ... 2^n (i + 1) - 1 are one node, merged from its two halves; nodes
//   left over at the end are
//              merged from the last to the first (online softmax: Milakov & Gimelshein 2018)
// Scores are in units of log2(e): the exponential is 2^x. No ggml here; attention_op.h has the
// operation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aurora::attention {

inline constexpr int kBlockKeys = 64;
inline constexpr int kTileRows =
    48;  // (query row, head of the group) pairs that share one pass over the keys
inline constexpr int kDimMax = 1024;  // of keys and of values; both are multiples of 8

// fp16 mask [stream][row][cell] of 0 (visible) and -inf. Strides in elements. values == nullptr:
// all is visible.
struct MaskView {
  const uint16_t* values = nullptr;
  size_t row_stride = 0;
  size_t stream_stride = 0;
  int rows = 0;
  int cells = 0;
  int streams = 1;
  const int32_t* positions = nullptr;  // [stream][cell]; nullptr: cells stand in position order
};

struct Row {
  int32_t query;
  int32_t keys;  // it sees the first `keys` cells of its group
};

// Rows whose visible keys are prefixes of one list: as a rule, the rows of one sequence, in order.
struct RowGroup {
  int32_t stream;
  std::vector<int32_t> cells;  // in position order
  std::vector<Row> rows;       // keys never fall
};

// Up to kTileRows pairs of one group, pair = row * heads_per_kv + head.
struct Tile {
  int32_t group;
  int32_t first;
  int32_t count;
  int32_t blocks;
  int64_t start;   // sum of weight * blocks of the tiles before it
  int64_t weight;  // work of one block
};

struct Plan {
  std::vector<RowGroup> groups;
  std::vector<Tile> tiles;
  int64_t weight = 0;  // of all tiles
  int heads_per_kv = 1;
};

// False: the mask holds something else than 0 and -inf. Costs one look at each mask value.
[[nodiscard]] bool make_plan(const MaskView& mask, int heads_per_kv, Plan& plan);

// fp32 or fp16 rows: row `cell` of head h in stream s begins at data + s * stream + h * head + cell
// * row (bytes).
struct Rows {
  const std::byte* data = nullptr;
  size_t row = 0;
  size_t head = 0;
  size_t stream = 0;
  bool half = false;
};

// fp32, addressed in the same way.
struct OutRows {
  std::byte* data = nullptr;
  size_t row = 0;
  size_t head = 0;
  size_t stream = 0;
};

struct Call {
  Rows queries;  // fp32, heads = kv_heads * plan->heads_per_kv
  Rows keys;
  Rows values;
  OutRows out;                   // written; rows that see nothing become 0
  const float* sinks = nullptr;  // [head]: one more score without a value (gpt-oss)
  int kv_heads = 1;
  int query_rows = 1;  // of a stream
  int cells = 1;       // of a stream
  int key_dim = 0;
  int value_dim = 0;
  float scale = 1;
  float softcap = 0;  // > 0: score = softcap * tanh(scale q k / softcap) (Gemma 2)
  const Plan* plan = nullptr;
};

struct Shape {
  int pairs;  // query rows of a stream * heads_per_kv
  int cells;
  int key_dim;
  int value_dim;
};

// Bytes of work memory that `threads` threads share, aligned to 64 by attend itself. Some 200 kB to
// 2 MB a thread.
size_t work_bytes(const Shape& shape, int threads);

struct Worker {
  int index;
  int count;
  std::byte* work;  // work_bytes, the same for all workers
};

struct AttentionKernels;

// AVX2 + FMA + F16C where the CPU has them, else plain C++. Both give the same bits.
const AttentionKernels& best_kernels();
const AttentionKernels& portable_kernels();
const AttentionKernels* avx2_kernels();  // nullptr: not for this CPU

// Phase one of each worker. True, for all workers alike: some rows are shared between workers, so
// once every worker is through with this, each must call attend_shared. No allocation once the
// thread has seen as many workers.
[[nodiscard]] bool attend(const Call& call, const AttentionKernels& kernels, const Worker& worker);
void attend_shared(const Call& call, const AttentionKernels& kernels, const Worker& worker);

}  // namespace aurora::attention
