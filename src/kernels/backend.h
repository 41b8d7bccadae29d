// The instruction sets a matrix product can run on. All of them give the same bits.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/activations.h"
#include "kernels/format.h"

namespace aurora::kernels {

// One panel (16 rows) times one tile of `tokens` <= kTileTokens tokens over `columns` columns.
// Quantised types: `tile` are ActivationBlocks, float types: floats, [column * tokens + token].
// Writes out[token * kPanelRows + row]. For each token the sums run over the columns from first to
// last, in fp32 over exact integer sums of 32 columns, whatever `tokens` is.
using PanelFunction = void (*)(const uint8_t* panel, const void* tile, int64_t columns, int tokens,
                               float* out);

// Rounds blocks [first, last) of one token whose floats begin at `values`, into tile slots of
// stride `tokens`.
using QuantizeFunction = void (*)(WeightType type, const float* values, int64_t first, int64_t last,
                                  int tokens, ActivationBlock* slots);

struct Backend {
  const char* name;
  PanelFunction panel[kWeightTypeCount];
  QuantizeFunction quantize;
};

const Backend& portable_backend();

// Those that this CPU can run, best first; the last one is the portable one.
std::span<const Backend* const> usable_backends();

// Best usable one, or the one that AURORA_KERNELS names. Thread-safe, decided once.
const Backend& backend();

}  // namespace aurora::kernels
