// The products written once over a set of vector operations (`Isa`), which each backend's .cc file
// defines for its instruction set and then instantiates. Include it only there: the code must be
// compiled with that file's flags.
//
// Isa: kRows (rows a vector covers: 8 or 16), Int, Float, and the operations used below. The
// integer part of a block is exact in every Isa, the fp32 part is the same sequence of operations,
// so all give the same bits as portable.cc.
#pragma once

#include <utility>

#include "kernels/backend.h"

namespace aurora::kernels {

// Unpacks steps 2 i and 2 i + 1 of one vector of rows.
template <class Isa, int kBits>
struct StepPair {
  typename Isa::Int even, odd;

  StepPair(const uint8_t* lines, int i) {
    if constexpr (kBits == 8) {
      even = Isa::load(lines + 128 * i);
      odd = Isa::load(lines + 128 * i + 64);
      return;
    }
    const auto packed = Isa::load(lines + 64 * i);
    even = Isa::low_nibbles(packed);
    odd = Isa::high_nibbles(packed);
    if constexpr (kBits == 5) {
      const auto fifth = Isa::load(lines + 256);
      even = Isa::either(even, Isa::fifth_bit(fifth, 2 * i));
      odd = Isa::either(odd, Isa::fifth_bit(fifth, 2 * i + 1));
    }
    if constexpr (kBits == 6) {
      const auto upper = Isa::load(lines + 256 + 64 * (i / 2));
      even = Isa::either(even, Isa::upper_bits(upper, 4 * (i % 2)));
      odd = Isa::either(odd, Isa::upper_bits(upper, 4 * (i % 2) + 2));
    }
  }
};

// Adds one block of 32 columns for one vector of rows to the sums of kTokens tokens.
template <class Isa, WeightType kType, int kTokens>
[[gnu::always_inline]] inline void add_block(const uint8_t* unit, const uint8_t* block, int row,
                                             const ActivationBlock* activations,
                                             typename Isa::Float* sums) {
  using Int = typename Isa::Int;
  constexpr Format kFormat = format_of(kType);
  asm volatile("" ::
                   : "memory");  // or the compiler keeps every broadcast of a block for the next
                                 // vector, on the stack
  const uint8_t* lines = block + kFormat.scale_bytes + 4 * row;
  Int sum[kTokens];
  Int first_half[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    if constexpr (kFormat.bits == 8) sum[t] = Isa::start8(activations[t].start[0]);
    else if constexpr (kFormat.offset > 0) sum[t] = Isa::start(activations[t].start[0]);
    else sum[t] = Isa::zero();
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    if (kType == WeightType::kQ6_K && i == 2) {
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        first_half[t] = Isa::total_scaled(sum[t], Isa::scales(block + row));
        sum[t] = Isa::start(activations[t].start[1]);
      }
    }
    const StepPair<Isa, kFormat.bits> steps(lines, i);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const int8_t* quants = activations[t].quants + 8 * i;
      if constexpr (kFormat.bits == 8) {
        sum[t] = Isa::dot8(sum[t], steps.even, Isa::four(quants));
        sum[t] = Isa::dot8(sum[t], steps.odd, Isa::four(quants + 4));
      } else {
        sum[t] = Isa::dot(sum[t], steps.even, Isa::four(quants));
        sum[t] = Isa::dot(sum[t], steps.odd, Isa::four(quants + 4));
      }
    }
  }
  const uint8_t* fp16 = (kFormat.header_bytes ? unit : block) + 2 * row;
  typename Isa::Float scale = Isa::halves(fp16);
  typename Isa::Float min{};
  if constexpr (kFormat.mins) {
    min = Isa::halves(fp16 + 32);
    if constexpr (kFormat.header_bytes > 0) {
      scale = Isa::multiply(scale, Isa::bytes(block + row));
      min = Isa::multiply(min, Isa::negative(Isa::bytes(block + 16 + row)));
    }
    if constexpr (kFormat.offset > 0) {
      min = Isa::fma(Isa::all(static_cast<float>(kFormat.offset)), scale, min);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    Int product;
    if constexpr (kType == WeightType::kQ6_K) {
      product = Isa::plus(first_half[t], Isa::total_scaled(sum[t], Isa::scales(block + 16 + row)));
    } else if constexpr (kFormat.bits == 8) {
      product = sum[t];
    } else {
      product = Isa::total(sum[t]);
    }
    const auto factor = Isa::multiply(scale, Isa::all(activations[t].scale));
    sums[t] = Isa::fma(Isa::to_float(product), factor, sums[t]);
    if constexpr (kFormat.mins)
      sums[t] = Isa::fma(min, Isa::all(activations[t].scaled_sum), sums[t]);
  }
}

template <class Isa, WeightType kType, int kTokens>
void quantised_panel(const uint8_t* panel, const ActivationBlock* tile, int64_t columns,
                     float* out) {
  constexpr Format kFormat = format_of(kType);
  constexpr int kVectors = kPanelRows / Isa::kRows;
  typename Isa::Float sums[kVectors][kTokens];
  for (auto& vector : sums) {
    for (auto& sum : vector) sum = Isa::all(0.0f);
  }
  const int64_t units = columns / kFormat.unit_columns();
  for (int64_t u = 0; u < units; ++u) {
    const uint8_t* unit = panel + u * kFormat.unit_bytes();
    for (int b = 0; b < kFormat.blocks; ++b) {
      const uint8_t* block = unit + kFormat.header_bytes + b * kFormat.block_bytes();
      for (int v = 0; v < kVectors; ++v) {
        add_block<Isa, kType, kTokens>(unit, block, v * Isa::kRows, tile, sums[v]);
      }
      tile += kTokens;
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int t = 0; t < kTokens; ++t) Isa::store(out + t * kPanelRows + v * Isa::kRows, sums[v][t]);
  }
}

template <class Isa, WeightType kType, int kTokens>
void float_panel(const uint8_t* panel, const float* tile, int64_t columns, float* out) {
  for (int row = 0; row < kPanelRows; row += Isa::kRows) {
    typename Isa::Float sums[kTokens];
    for (auto& sum : sums) sum = Isa::all(0.0f);
    for (int64_t k = 0; k < columns; ++k) {
      const uint8_t* at = panel + 2 * (kPanelRows * k + row);
      const auto weights = kType == WeightType::kF16 ? Isa::halves(at) : Isa::bfloats(at);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        sums[t] = Isa::fma(weights, Isa::all(tile[k * kTokens + t]), sums[t]);
      }
    }
    for (int t = 0; t < kTokens; ++t) Isa::store(out + t * kPanelRows + row, sums[t]);
  }
}

template <class Isa, WeightType kType, int kTokens>
void vector_panel(const uint8_t* panel, const void* tile, int64_t columns, float* out) {
  if constexpr (is_float(kType)) {
    float_panel<Isa, kType, kTokens>(panel, static_cast<const float*>(tile), columns, out);
  } else {
    quantised_panel<Isa, kType, kTokens>(panel, static_cast<const ActivationBlock*>(tile), columns,
                                         out);
  }
}

template <class Isa, int kType, int... kTokens>
void fill_type(Backend& backend, std::integer_sequence<int, kTokens...>) {
  ((backend.panel[kType][kTokens] = vector_panel<Isa, static_cast<WeightType>(kType), kTokens + 1>),
   ...);
}

template <class Isa, int... kTypes>
Backend make_backend(const char* name, QuantizeFunction quantize,
                     std::integer_sequence<int, kTypes...>) {
  Backend backend{name, {}, quantize};
  (fill_type<Isa, kTypes>(backend, std::make_integer_sequence<int, kTileTokens>()), ...);
  return backend;
}

template <class Isa>
Backend make_backend(const char* name, QuantizeFunction quantize) {
  return make_backend<Isa>(name, quantize, std::make_integer_sequence<int, kWeightTypeCount>());
}

}  // namespace aurora::kernels
