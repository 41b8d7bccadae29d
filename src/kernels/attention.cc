#include "kernels/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/attention_kernels.h"

namespace aurora::attention {
namespace {

constexpr int kDirectPairs =
    6;  // fp16 rows are widened once for more pairs than these, else at each use
constexpr size_t kAlign = 64;

size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// A thread's work memory. Two stacks of partial results: the tile whose first blocks another worker
// has, and the tile begun here. Stack of a pair: nodes of falling level; 2 log2(blocks) + 2 hold
// any run of blocks.
struct Layout {
  Layout(const Shape& shape)
      : rows(std::clamp(shape.pairs, 1, kTileRows)),
        depth(2 * std::bit_width(static_cast<unsigned>(shape.cells / kBlockKeys + 1)) + 2),
        node_bytes(sizeof(Partial) + shape.value_dim * sizeof(float)),
        stack_bytes(aligned(kTileRows * sizeof(int32_t) + rows * depth * node_bytes)),
        queries(2 * stack_bytes),
        scores(queries + aligned(rows * shape.key_dim * sizeof(float))),
        keys(scores + aligned(rows * kBlockKeys * sizeof(float))),
        values(keys + aligned(kBlockKeys * shape.key_dim * sizeof(float))),
        bytes(values + aligned(kBlockKeys * shape.value_dim * sizeof(float))) {}

  size_t rows, depth, node_bytes, stack_bytes;
  size_t queries, scores, keys, values, bytes;  // offsets, and all of it
};

// The stacks of one tile's pairs.
class Stacks {
 public:
  Stacks(std::byte* at, const Layout& layout, const AttentionKernels& kernels, int dim)
      : at_(at), layout_(layout), kernels_(kernels), dim_(dim) {}

  int32_t& size(int pair) { return reinterpret_cast<int32_t*>(at_)[pair]; }

  Partial& node(int pair, int index) {
    const size_t slot = pair * layout_.depth + index;
    return *reinterpret_cast<Partial*>(at_ + kTileRows * sizeof(int32_t) +
                                       slot * layout_.node_bytes);
  }

  // The free slot on top, for push.
  Partial& next(int pair) { return node(pair, size(pair)); }

  // Takes the top slot in and merges halves of a node as long as there are two.
  void push(int pair) {
    int& count = size(pair);
    for (++count; count >= 2; --count) {
      Partial& left = node(pair, count - 2);
      const Partial& right = node(pair, count - 1);
      const bool halves = left.level == right.level && ((left.first >> left.level) & 1) == 0;
      if (!halves) return;
      kernels_.merge(left, right, dim_);
      ++left.level;
    }
  }

  void push_copy(int pair, const Partial& from) {
    std::memcpy(&next(pair), &from, layout_.node_bytes);
    push(pair);
  }

  Partial& collapse(int pair) {
    for (int& count = size(pair); count >= 2; --count) {
      kernels_.merge(node(pair, count - 2), node(pair, count - 1), dim_);
    }
    return node(pair, 0);
  }

 private:
  std::byte* at_;
  const Layout& layout_;
  const AttentionKernels& kernels_;
  int dim_;
};

// A place on the line of all blocks: kv heads, in each the tiles, in each the blocks. Workers have
// equal stretches.
struct Cut {
  int64_t task;  // head * tiles + tile
  int32_t block;
};

Cut cut_at(const Call& call, int worker, int workers) {
  const Plan& plan = *call.plan;
  const int64_t tiles = static_cast<int64_t>(plan.tiles.size());
  if (worker == workers || plan.weight == 0) return {tiles * call.kv_heads, 0};
  const int64_t target = plan.weight * call.kv_heads / workers * worker;
  const int64_t head = target / plan.weight;
  const int64_t rest = target % plan.weight;
  const auto after = std::upper_bound(plan.tiles.begin(), plan.tiles.end(), rest,
                                      [](int64_t at, const Tile& tile) { return at < tile.start; });
  const int64_t tile = after - plan.tiles.begin() - 1;
  const int64_t into = rest - plan.tiles[tile].start;
  const int32_t block =
      static_cast<int32_t>((into + plan.tiles[tile].weight / 2) / plan.tiles[tile].weight);
  if (block >= plan.tiles[tile].blocks) return {head * tiles + tile + 1, 0};
  return {head * tiles + tile, block};
}

class Run {
 public:
  Run(const Call& call, const AttentionKernels& kernels, const Worker& worker)
      : call_(call),
        plan_(*call.plan),
        kernels_(kernels),
        worker_(worker),
        layout_({call.query_rows * plan_.heads_per_kv, call.cells, call.key_dim, call.value_dim}) {
    const auto address = reinterpret_cast<uintptr_t>(worker.work);
    base_ = worker.work + (kAlign - address % kAlign) % kAlign;
  }

  void own_blocks();
  void shared_tiles();

 private:
  // What a task is: its tile and the addresses of its kv head.
  struct Task {
    const Tile& tile;
    const RowGroup& group;
    int kv_head;
  };

  Task task(int64_t index) const {
    const int64_t tiles = static_cast<int64_t>(plan_.tiles.size());
    const Tile& tile = plan_.tiles[index % tiles];
    return {tile, plan_.groups[tile.group], static_cast<int>(index / tiles)};
  }
  const Row& row(const Task& task, int pair) const {
    return task.group.rows[(task.tile.first + pair) / plan_.heads_per_kv];
  }
  int head(const Task& task, int pair) const {
    return task.kv_head * plan_.heads_per_kv + (task.tile.first + pair) % plan_.heads_per_kv;
  }
  std::byte* own(size_t offset) const { return base_ + worker_.index * layout_.bytes + offset; }
  float* own_floats(size_t offset) const { return reinterpret_cast<float*>(own(offset)); }

  Stacks stacks(int worker, bool begun_there) const {
    return {base_ + worker * layout_.bytes + (begun_there ? layout_.stack_bytes : 0), layout_,
            kernels_, call_.value_dim};
  }

  void load_queries(const Task& task) const;
  void run_blocks(const Task& task, int first, int last, Stacks stacks) const;
  void run_block(const Task& task, int block, Stacks& stacks) const;
  void run_scores(const Task& task, int first_pair, int count, const void* const* keys) const;
  void run_values(const Task& task, int block, int first_pair, const void* const* values,
                  Stacks& stacks) const;
  bool gather(const Task& task, const Rows& rows, int dim, int block, size_t wide_at, bool widen,
              const void** pointers) const;
  void finish(const Task& task, int pair, Stacks& stacks) const;

  const Call& call_;
  const Plan& plan_;
  const AttentionKernels& kernels_;
  const Worker& worker_;
  Layout layout_;
  std::byte* base_;
};

void Run::load_queries(const Task& task) const {
  const float factor = call_.softcap > 0 ? call_.scale / call_.softcap : call_.scale * kLog2E;
  const std::byte* data = call_.queries.data + task.group.stream * call_.queries.stream;
  float* out = own_floats(layout_.queries);
  for (int pair = 0; pair < task.tile.count; ++pair) {
    const std::byte* in =
        data + head(task, pair) * call_.queries.head + row(task, pair).query * call_.queries.row;
    kernels_.scale(reinterpret_cast<const float*>(in), factor,
                   out + static_cast<ptrdiff_t>(pair) * call_.key_dim, call_.key_dim);
  }
}

// Row pointers of a block's cells, rounded up to 8 by repeating the last. True: they point to fp16.
bool Run::gather(const Task& task, const Rows& rows, int dim, int block, size_t wide_at, bool widen,
                 const void** pointers) const {
  const std::byte* data = rows.data + task.group.stream * rows.stream + task.kv_head * rows.head;
  const int32_t* cells = task.group.cells.data() + static_cast<ptrdiff_t>(block) * kBlockKeys;
  const int keys = static_cast<int>(task.group.cells.size()) - block * kBlockKeys;
  const int count = std::min(keys, kBlockKeys);
  for (int key = 0; key < count; ++key) pointers[key] = data + cells[key] * rows.row;
  if (widen && rows.half) kernels_.widen(pointers, count, dim, own_floats(wide_at));
  for (int key = count; key % kLanes != 0; ++key) pointers[key] = pointers[key - 1];
  return rows.half && !widen;
}

void Run::run_values(const Task& task, int block, int first_pair, const void* const* values,
                     Stacks& stacks) const {
  const float* weights = own_floats(layout_.scores);
  const bool half = call_.values.half && task.tile.count <= kDirectPairs;
  for (int pair = first_pair; pair < task.tile.count; pair += 3) {
    const int rows = std::min(3, task.tile.count - pair);
    ValueArgs args = {{}, {}, values, 0, 0, call_.value_dim, half};
    int counts[3];
    for (int i = 0; i < rows; ++i) {
      args.weights[i] = weights + static_cast<ptrdiff_t>(pair + i) * kBlockKeys;
      args.values[i] = stacks.next(pair + i).values();
      std::fill_n(args.values[i], call_.value_dim, 0.0f);
      counts[i] = std::min(kBlockKeys, row(task, pair + i).keys - block * kBlockKeys);
    }
    args.last = counts[0];  // the least: keys never fall
    kernels_.add_values(rows, args);
    for (int i = 1; i < rows; ++i) {
      if (counts[i] == counts[0]) continue;
      const ValueArgs rest = {{args.weights[i]}, {args.values[i]}, values, counts[0],
                              counts[i],         call_.value_dim,  half};
      kernels_.add_values(1, rest);
    }
  }
}

void Run::run_block(const Task& task, int block, Stacks& stacks) const {
  int first_pair = 0;
  while (first_pair < task.tile.count && row(task, first_pair).keys <= block * kBlockKeys)
    ++first_pair;
  const int pairs = task.tile.count - first_pair;
  if (pairs == 0) return;
  const bool widen = task.tile.count > kDirectPairs;
  const void* pointers[kBlockKeys];
  const bool half = gather(task, call_.keys, call_.key_dim, block, layout_.keys, widen, pointers);
  const int most = std::min(kBlockKeys, row(task, task.tile.count - 1).keys - block * kBlockKeys);
  float* scores = own_floats(layout_.scores) + static_cast<ptrdiff_t>(first_pair) * kBlockKeys;
  kernels_.scores({own_floats(layout_.queries) + static_cast<ptrdiff_t>(first_pair) * call_.key_dim,
                   pointers, pairs, most, call_.key_dim, half, scores, kBlockKeys});
  if (call_.softcap > 0) {
    kernels_.soften(scores, pairs * kBlockKeys, call_.softcap * kLog2E);
  }
  for (int pair = first_pair; pair < task.tile.count; ++pair, scores += kBlockKeys) {
    const int count = std::min(kBlockKeys, row(task, pair).keys - block * kBlockKeys);
    Partial& partial = stacks.next(pair);
    kernels_.weigh(scores, count, partial);
    partial.first = block;
    partial.level = 0;
  }
  gather(task, call_.values, call_.value_dim, block, layout_.values, widen, pointers);
  run_values(task, block, first_pair, pointers, stacks);
  for (int pair = first_pair; pair < task.tile.count; ++pair) stacks.push(pair);
}

void Run::run_blocks(const Task& task, int first, int last, Stacks stacks) const {
  load_queries(task);
  for (int pair = 0; pair < task.tile.count; ++pair) stacks.size(pair) = 0;
  for (int block = first; block < last; ++block) run_block(task, block, stacks);
  if (first > 0 || last < task.tile.blocks) return;  // the rest is another worker's
  for (int pair = 0; pair < task.tile.count; ++pair) finish(task, pair, stacks);
}

void Run::finish(const Task& task, int pair, Stacks& stacks) const {
  const OutRows& rows = call_.out;
  std::byte* at = rows.data + task.group.stream * rows.stream + head(task, pair) * rows.head +
                  row(task, pair).query * rows.row;
  float* out = reinterpret_cast<float*>(at);
  if (stacks.size(pair) == 0) {
    std::fill_n(out, call_.value_dim, 0.0f);
    return;
  }
  Partial& sum = stacks.collapse(pair);
  if (call_.sinks != nullptr) {
    Partial& sink = stacks.node(pair, 1);
    sink.max = call_.sinks[head(task, pair)] * kLog2E;
    sink.sum = 1;
    std::fill_n(sink.values(), call_.value_dim, 0.0f);
    kernels_.merge(sum, sink, call_.value_dim);
  }
  kernels_.scale(sum.values(), 1.0f / sum.sum, out, call_.value_dim);
}

void Run::own_blocks() {
  const Cut begin = cut_at(call_, worker_.index, worker_.count);
  const Cut end = cut_at(call_, worker_.index + 1, worker_.count);
  for (int64_t index = begin.task; index < end.task || (index == end.task && end.block > 0);
       ++index) {
    const Task current = task(index);
    const int first = index == begin.task ? begin.block : 0;
    const int last = index == end.task ? end.block : current.tile.blocks;
    if (first < last) run_blocks(current, first, last, stacks(worker_.index, first == 0));
  }
}

// Each tile that a cut goes through: the pairs are dealt out, each pair's stacks pushed in block
// order.
void Run::shared_tiles() {
  int64_t done = -1;
  int dealt = 0;
  for (int cutter = 1; cutter < worker_.count; ++cutter) {
    const Cut cut = cut_at(call_, cutter, worker_.count);
    if (cut.block == 0 || cut.task == done) continue;
    done = cut.task;
    const Task current = task(cut.task);
    Stacks begun = stacks(cutter - 1, true);
    for (int pair = 0; pair < current.tile.count; ++pair, ++dealt) {
      if (dealt % worker_.count != worker_.index) continue;
      for (int other = cutter; other < worker_.count; ++other) {
        const Cut from = cut_at(call_, other, worker_.count);
        const Cut to = cut_at(call_, other + 1, worker_.count);
        if (from.task != cut.task) break;
        if (to.task == from.task && to.block == from.block) continue;
        Stacks part = stacks(other, false);
        for (int i = 0; i < part.size(pair); ++i) begun.push_copy(pair, part.node(pair, i));
      }
      finish(current, pair, begun);
    }
  }
}

}  // namespace

size_t work_bytes(const Shape& shape, int threads) {
  return Layout(shape).bytes * threads + kAlign;
}

const AttentionKernels& best_kernels() {
#if defined(__x86_64__)
  if (const AttentionKernels* kernels = avx2_kernels()) return *kernels;
#endif
  return portable_kernels();
}

bool attend(const Call& call, const AttentionKernels& kernels, const Worker& worker) {
  Run(call, kernels, worker).own_blocks();
  for (int cutter = 1; cutter < worker.count; ++cutter) {
    if (cut_at(call, cutter, worker.count).block > 0) return true;
  }
  return false;
}

void attend_shared(const Call& call, const AttentionKernels& kernels, const Worker& worker) {
  Run(call, kernels, worker).shared_tiles();
}

}  // namespace aurora::attention
