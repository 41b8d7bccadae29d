#include "kernels/product.h"

#include <algorithm>
#include <cstring>

namespace aurora::kernels {
namespace {

// Weights that are reused for every tile of a long batch stay in the second level cache.
constexpr int64_t kHotBytes = 192 * 1024;

int64_t tile_count(int64_t tokens) { return (tokens + kTileTokens - 1) / kTileTokens; }

int tokens_of_tile(int64_t tile, int64_t tokens) {
  return static_cast<int>(std::min<int64_t>(kTileTokens, tokens - tile * kTileTokens));
}

const void* tile_data(const Matrix& matrix, const void* activations, int64_t tile) {
  if (is_float(matrix.type)) {
    return static_cast<const float*>(activations) + tile_begin(tile, matrix.columns);
  }
  return static_cast<const ActivationBlock*>(activations) +
         tile_begin(tile, matrix.columns / kBlock);
}

void multiply_panel(const Backend& backend, const Matrix& matrix, int64_t panel, const void* tile,
                    int64_t first_token, int tile_tokens, const OutRows& out) {
  alignas(64) float sums[kTileTokens * kPanelRows];
  const uint8_t* weights =
      matrix.data + static_cast<size_t>(panel) * panel_bytes(matrix.type, matrix.columns);
  backend.panel[static_cast<int>(matrix.type)](weights, tile, matrix.columns, tile_tokens, sums);
  const int64_t row = panel * kPanelRows;
  const auto rows = static_cast<size_t>(std::min<int64_t>(kPanelRows, matrix.rows - row));
  for (int t = 0; t < tile_tokens; ++t) {
    std::memcpy(out.of(first_token + t) + row, sums + t * kPanelRows, rows * sizeof(float));
  }
}

}  // namespace

size_t activation_bytes(WeightType type, int64_t tokens, int64_t columns) {
  const int64_t bytes =
      is_float(type) ? tokens * columns * static_cast<int64_t>(sizeof(float))
                     : tokens * (columns / kBlock) * static_cast<int64_t>(sizeof(ActivationBlock));
  return static_cast<size_t>(bytes);
}

void round_token(const Backend& backend, const Matrix& matrix, int64_t token, int64_t tokens,
                 const float* values, int64_t first, int64_t last, void* activations) {
  const int64_t tile = token / kTileTokens;
  const int tile_tokens = tokens_of_tile(tile, tokens);
  const int64_t slot = token % kTileTokens;
  if (is_float(matrix.type)) {
    float* out = static_cast<float*>(activations) + tile_begin(tile, matrix.columns) + slot;
    for (int64_t k = first; k < last; ++k) out[k * tile_tokens] = values[k];
    return;
  }
  ActivationBlock* slots =
      static_cast<ActivationBlock*>(activations) + tile_begin(tile, matrix.columns / kBlock) + slot;
  backend.quantize(matrix.type, values, first / kBlock, last / kBlock, tile_tokens, slots);
}

void multiply_panels(const Backend& backend, const Matrix& matrix, const void* activations,
                     int64_t tokens, int64_t first, int64_t last, const OutRows& out) {
  const auto bytes = static_cast<int64_t>(panel_bytes(matrix.type, matrix.columns));
  const int64_t step =
      tokens <= kTileTokens ? last - first : std::max<int64_t>(1, kHotBytes / bytes);
  for (int64_t begin = first; begin < last; begin += step) {
    const int64_t end = std::min(begin + step, last);
    for (int64_t tile = 0; tile < tile_count(tokens); ++tile) {
      const void* data = tile_data(matrix, activations, tile);
      const int tile_tokens = tokens_of_tile(tile, tokens);
      for (int64_t panel = begin; panel < end; ++panel) {
        multiply_panel(backend, matrix, panel, data, tile * kTileTokens, tile_tokens, out);
      }
    }
  }
}

}  // namespace aurora::kernels
