// From a mask to lists of visible cells in position order, and from those to tiles.
#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/attention.h"

namespace aurora::attention {
namespace {

constexpr uint16_t kHidden = 0xfc00;   // -inf
constexpr uint16_t kSignBit = 0x8000;  // 0 and -0 are both visible
constexpr int kCompareCells = 64;      // cells compared at once
constexpr int64_t kBlockOverhead = 3;  // reading a block costs about as much as 3 pairs' work on it

constexpr size_t kJoinTries = 16;  // groups that a row is compared with, the newest first

bool visible(uint16_t value) { return (value & ~kSignBit) == 0; }

struct PlanMaker {
  const MaskView& mask;
  int stream;
  std::vector<RowGroup>& groups;
  std::vector<int> last_rows = {};  // of each group of this stream
  std::vector<int32_t> added = {};

  const uint16_t* values(int row) const {
    return mask.values + stream * mask.stream_stride + row * mask.row_stride;
  }

  std::pair<int32_t, int32_t> place(int32_t cell) const {
    if (mask.positions == nullptr) return {cell, cell};
    return {mask.positions[static_cast<ptrdiff_t>(stream) * mask.cells + cell], cell};
  }

  void sort(std::vector<int32_t>& cells) const {
    const auto earlier = [this](int32_t a, int32_t b) { return place(a) < place(b); };
    if (!std::is_sorted(cells.begin(), cells.end(), earlier)) {
      std::sort(cells.begin(), cells.end(), earlier);
    }
  }

  // Cells that `row` sees and `before` did not, into added. False when it lost one, or by another
  // value.
  bool differ(const uint16_t* before, const uint16_t* row, bool& valid) {
    added.clear();
    for (int begin = 0; begin < mask.cells; begin += kCompareCells) {
      const int end = std::min(begin + kCompareCells, mask.cells);
      if (std::memcmp(before + begin, row + begin, (end - begin) * sizeof(uint16_t)) == 0) continue;
      for (int cell = begin; cell < end; ++cell) {
        if (visible(row[cell])) {
          if (!visible(before[cell])) added.push_back(cell);
        } else if (row[cell] != kHidden) {
          return valid = false;
        } else if (visible(before[cell])) {
          return false;
        }
      }
    }
    return true;
  }

  bool join(size_t index, int row, bool& valid) {
    RowGroup& group = groups[index];
    int& last_row = last_rows[index - (groups.size() - last_rows.size())];
    if (!differ(values(last_row), values(row), valid)) return false;
    sort(added);
    const bool follows =
        added.empty() || group.cells.empty() || place(group.cells.back()) < place(added.front());
    if (!follows) return false;
    group.cells.insert(group.cells.end(), added.begin(), added.end());
    group.rows.push_back({row, static_cast<int32_t>(group.cells.size())});
    last_row = row;
    return true;
  }

  bool found(int row) {
    RowGroup group = {stream, {}, {}};
    const uint16_t* row_values = values(row);
    for (int cell = 0; cell < mask.cells; ++cell) {
      if (row_values[cell] == kHidden) continue;
      if (!visible(row_values[cell])) return false;
      group.cells.push_back(cell);
    }
    sort(group.cells);
    group.rows.push_back({row, static_cast<int32_t>(group.cells.size())});
    groups.push_back(std::move(group));
    last_rows.push_back(row);
    return true;
  }

  bool add(int row) {
    bool valid = true;
    const size_t tries = std::min(last_rows.size(), kJoinTries);
    for (size_t back = 1; back <= tries && valid; ++back) {
      if (join(groups.size() - back, row, valid)) return true;
    }
    return valid && found(row);
  }
};

void add_open_group(const MaskView& mask, int stream, std::vector<RowGroup>& groups) {
  RowGroup group = {stream, {}, {}};
  for (int cell = 0; cell < mask.cells; ++cell) group.cells.push_back(cell);
  for (int row = 0; row < mask.rows; ++row) group.rows.push_back({row, mask.cells});
  groups.push_back(std::move(group));
}

void add_tiles(Plan& plan) {
  for (size_t index = 0; index < plan.groups.size(); ++index) {
    const RowGroup& group = plan.groups[index];
    const int pairs = static_cast<int>(group.rows.size()) * plan.heads_per_kv;
    for (int first = 0; first < pairs; first += kTileRows) {
      const int count = std::min(kTileRows, pairs - first);
      const int keys = group.rows[(first + count - 1) / plan.heads_per_kv].keys;
      const int blocks = std::max(1, (keys + kBlockKeys - 1) / kBlockKeys);
      const int64_t weight = count + kBlockOverhead;
      plan.tiles.push_back(
          {static_cast<int32_t>(index), first, count, blocks, plan.weight, weight});
      plan.weight += weight * blocks;
    }
  }
}

}  // namespace

bool make_plan(const MaskView& mask, int heads_per_kv, Plan& plan) {
  plan = {};
  plan.heads_per_kv = heads_per_kv;
  for (int stream = 0; stream < mask.streams; ++stream) {
    if (mask.values == nullptr) {
      add_open_group(mask, stream, plan.groups);
      continue;
    }
    PlanMaker maker = {mask, stream, plan.groups};
    for (int row = 0; row < mask.rows; ++row) {
      if (!maker.add(row)) return false;
    }
  }
  add_tiles(plan);
  return true;
}

}  // namespace aurora::attention
