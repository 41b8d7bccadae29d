// The products in plain C++: what every other backend must equal to the bit, and what runs where
// there is none.
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/backend.h"
#include "kernels/half.h"

namespace aurora::kernels {
namespace {

uint16_t load16(const uint8_t* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <WeightType kType>
int quant_at(const uint8_t* lines, int row, int column) {
  constexpr Format kFormat = format_of(kType);
  const int step = column / 4;
  const int byte = 4 * row + column % 4;
  if constexpr (kFormat.bits == 8) return static_cast<int8_t>(lines[64 * step + byte]) + 128;
  if constexpr (kFormat.bits < 4) {
    const int low = (lines[64 * (step / 4) + byte] >> (2 * (step % 4))) & 3;
    return kFormat.bits == 2 ? low : low | (((lines[128 + byte] >> step) & 1) << 2);
  }
  int q = (lines[64 * (step / 2) + byte] >> (4 * (step % 2))) & 15;
  if constexpr (kFormat.bits == 5) q |= ((lines[256 + byte] >> step) & 1) << 4;
  if constexpr (kFormat.bits == 6)
    q |= ((lines[256 + 64 * (step / 4) + byte] >> (2 * (step % 4))) & 3) << 4;
  if constexpr (kFormat.codes != Codes::kNone)
    return values_of(kFormat.codes)[q] + (kFormat.signed_quants ? kFormat.offset : 0);
  return q;
}

// Factors of one row in one block: value = scale * integer_scale[half] * (quant - offset) +
// min[half]; min[0] alone where a block has one.
struct RowFactors {
  float scale = 0, min[2] = {0, 0};
  int integer_scale[2] = {1, 1};
};

template <WeightType kType>
RowFactors row_factors(const uint8_t* unit, const uint8_t* block, int row) {
  constexpr Format kFormat = format_of(kType);
  RowFactors out;
  const uint8_t* fp16 = kFormat.header_bytes ? unit : block;
  const uint16_t scale = load16(fp16 + 2 * row);
  out.scale = kType == WeightType::kMXFP4 ? bfloat_to_float(scale) : half_to_float(scale);
  if constexpr (kType == WeightType::kIQ4_XS) out.scale *= static_cast<int8_t>(block[row]);
  if constexpr (kFormat.halves) {
    out.integer_scale[0] = static_cast<int8_t>(block[row]);
    out.integer_scale[1] = static_cast<int8_t>(block[16 + row]);
  }
  if constexpr (kFormat.mins) {
    const float min = half_to_float(load16(fp16 + 32 + 2 * row));
    out.min[0] = min;
    if constexpr (kFormat.halves) {
      for (int h = 0; h < 2; ++h) out.min[h] = min * -static_cast<float>(block[32 + 16 * h + row]);
    } else if constexpr (kFormat.header_bytes > 0) {
      out.scale *= static_cast<float>(block[row]);
      out.min[0] *= -static_cast<float>(block[16 + row]);
    }
    if constexpr (kFormat.offset > 0) {
      out.min[0] = std::fma(static_cast<float>(kFormat.offset), out.scale, out.min[0]);
    }
  }
  return out;
}

template <WeightType kType>
float add_block(const uint8_t* unit, const uint8_t* block, int row,
                const ActivationBlock& activation, float sum) {
  constexpr Format kFormat = format_of(kType);
  const RowFactors factors = row_factors<kType>(unit, block, row);
  int halves[2] = {0, 0};
  for (int column = 0; column < kBlock; ++column) {
    const int q = quant_at<kType>(block + kFormat.scale_bytes, row, column) - kFormat.offset;
    halves[column / 16] += q * activation.quants[column];
  }
  const int product = factors.integer_scale[0] * halves[0] + factors.integer_scale[1] * halves[1];
  sum = std::fma(static_cast<float>(product), factors.scale * activation.scale, sum);
  if constexpr (kFormat.mins && kFormat.halves) {
    sum = std::fma(factors.min[0], activation.half_sum(0), sum);
    return std::fma(factors.min[1], activation.half_sum(1), sum);
  }
  if constexpr (kFormat.mins) sum = std::fma(factors.min[0], activation.scaled_sum, sum);
  return sum;
}

template <WeightType kType>
void quantised_panel(const uint8_t* panel, const void* tile, int64_t columns, int tokens,
                     float* out) {
  constexpr Format kFormat = format_of(kType);
  const auto* activations = static_cast<const ActivationBlock*>(tile);
  for (int i = 0; i < tokens * kPanelRows; ++i) out[i] = 0;
  for (int64_t b = 0; b < columns / kBlock; ++b) {
    const uint8_t* unit = panel + b / kFormat.blocks * kFormat.unit_bytes();
    const uint8_t* block = unit + kFormat.header_bytes + b % kFormat.blocks * kFormat.block_bytes();
    for (int token = 0; token < tokens; ++token) {
      for (int row = 0; row < kPanelRows; ++row) {
        float& sum = out[token * kPanelRows + row];
        sum = add_block<kType>(unit, block, row, activations[b * tokens + token], sum);
      }
    }
  }
}

template <WeightType kType>
float float_at(const uint8_t* panel, int64_t index) {
  if constexpr (kType == WeightType::kF32) {
    float value;
    std::memcpy(&value, panel + 4 * index, sizeof value);
    return value;
  }
  const uint16_t bits = load16(panel + 2 * index);
  return kType == WeightType::kF16 ? half_to_float(bits) : bfloat_to_float(bits);
}

template <WeightType kType>
void float_panel(const uint8_t* panel, const void* tile, int64_t columns, int tokens, float* out) {
  const auto* activations = static_cast<const float*>(tile);
  for (int i = 0; i < tokens * kPanelRows; ++i) out[i] = 0;
  for (int64_t k = 0; k < columns; ++k) {
    for (int row = 0; row < kPanelRows; ++row) {
      const float weight = float_at<kType>(panel, kPanelRows * k + row);
      for (int token = 0; token < tokens; ++token) {
        float& sum = out[token * kPanelRows + row];
        sum = std::fma(weight, activations[k * tokens + token], sum);
      }
    }
  }
}

template <WeightType kType>
void panel(const uint8_t* weights, const void* tile, int64_t columns, int tokens, float* out) {
  if constexpr (is_float(kType)) {
    float_panel<kType>(weights, tile, columns, tokens, out);
  } else {
    quantised_panel<kType>(weights, tile, columns, tokens, out);
  }
}

void quantize(WeightType type, const float* values, int64_t first, int64_t last, int tokens,
              ActivationBlock* slots) {
  for (int64_t b = first; b < last; ++b) {
    quantize_block(values + b * kBlock, slots[b * tokens]);
    set_start(type, slots[b * tokens]);
  }
}

template <int... kTypes>
Backend make(std::integer_sequence<int, kTypes...>) {
  return {"portable", {panel<static_cast<WeightType>(kTypes)>...}, quantize};
}

}  // namespace

const Backend& portable_backend() {
  static const Backend kBackend = make(std::make_integer_sequence<int, kWeightTypeCount>());
  return kBackend;
}

}  // namespace aurora::kernels
