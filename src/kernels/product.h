// Matrix times activations over packed panels: the two phases that the ggml operation, the tests
// and the benchmarks run.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace aurora::kernels {

// A packed matrix: rows x columns of `type`, packed_bytes(type, rows, columns) at `data`.
struct Matrix {
  WeightType type;
  int64_t rows;
  int64_t columns;  // a multiple of the type's unit
  const uint8_t* data;

  int64_t panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
};

// Bytes of the rounded activations of `tokens` tokens; the buffer must be aligned to 16.
size_t activation_bytes(WeightType type, int64_t tokens, int64_t columns);

// Phase one, one token: columns [first, last), multiples of 32, of `values` into `activations` (of
// all tokens). Threads may share the tokens and columns of one buffer; all of it must be there
// before phase two.
void round_token(const Backend& backend, const Matrix& matrix, int64_t token, int64_t tokens,
                 const float* values, int64_t first, int64_t last, void* activations);

// Where the result of each token begins: one behind the other, or where `offsets` says.
struct OutRows {
  float* first;
  int64_t stride = 0;
  const int64_t* offsets = nullptr;  // floats from `first`, of each token

  float* of(int64_t token) const { return first + (offsets ? offsets[token] : token * stride); }
};

// Phase two: panels [first, last) times all tokens into out.of(token)[row], rows beyond matrix.rows
// not written.
void multiply_panels(const Backend& backend, const Matrix& matrix, const void* activations,
                     int64_t tokens, int64_t first, int64_t last, const OutRows& out);

}  // namespace aurora::kernels
