// A mixture of experts sends each row of a batch to a few experts of its own. Sorted by expert the
// rows of one expert are a product like any other: same tiles, same sums, so a row's result does
// not depend on which rows go the same way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace aurora::kernels {

// A view of memory that the caller has; a row is a pair of token and choice.
class ExpertRoutes {
 public:
  // Bytes that the view needs, a multiple of 16.
  static size_t bytes(int64_t experts, int64_t rows);

  // memory: bytes(experts, rows), aligned to 8. expert_of(row) in [0, experts) for each row.
  template <class ExpertOf>
  ExpertRoutes(void* memory, int64_t experts, int64_t rows, const ExpertOf& expert_of)
      : ExpertRoutes(memory, experts, rows) {
    for (int64_t row = 0; row < rows; ++row) ++begin_[expert_of(row) + 1];
    find_busy();
    for (int64_t row = 0; row < rows; ++row)
      row_[begin_[expert_of(row)]++] = static_cast<int32_t>(row);
    step_back();
  }

  // Experts that any row goes to, in order.
  std::span<const int32_t> busy() const { return {busy_, static_cast<size_t>(busy_count_)}; }
  // Where the rows of an expert begin among the sorted ones; begin(experts) is all of them.
  int64_t begin(int64_t expert) const { return begin_[expert]; }
  int64_t count(int64_t expert) const { return begin_[expert + 1] - begin_[expert]; }
  // The rows sorted by expert, those of one expert in their order.
  std::span<const int32_t> rows() const { return {row_, static_cast<size_t>(row_count_)}; }
  // For the caller: a number for each sorted row.
  std::span<int64_t> offsets() const { return {offset_, static_cast<size_t>(row_count_)}; }

 private:
  ExpertRoutes(void* memory, int64_t experts, int64_t rows);
  void find_busy();
  void step_back();

  int64_t experts_, row_count_, busy_count_ = 0;
  int64_t* offset_;
  int32_t* begin_;
  int32_t* busy_;
  int32_t* row_;
};

}  // namespace aurora::kernels
