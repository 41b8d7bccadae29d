// The products written once over a set of vector operations (`Isa`), which each backend's .cc file
// defines for its instruction set and then instantiates. Include it only there: the code must be
// compiled with that file's flags.
//
// Isa: kRows (rows a vector covers: 8 or 16), Int, Float, and the operations used below. The
// integer part of a block is exact in every Isa, the fp32 part is the same sequence of operations,
// so all give the same bits as portable.cc.
#pragma once

#include <algorithm>
#include <utility>

#include "kernels/backend.h"

namespace aurora::kernels {

// Weights stream from memory while a batch keeps the core busy: asked for this far ahead.
inline constexpr int kLineBytes = 64;
inline constexpr int kPrefetchBytes = 8192;

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

// Factors of one vector of rows in one block: value = scale * product + min * sum of the
// activations.
template <class Isa, WeightType kType>
struct Factors {
  typename Isa::Float scale, min;

  Factors(const uint8_t* unit, const uint8_t* block, int row) : min{} {
    constexpr Format kFormat = format_of(kType);
    const uint8_t* fp16 = (kFormat.header_bytes ? unit : block) + 2 * row;
    scale = Isa::halves(fp16);
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
  }
};

// Exact integer sums of one block for kVectors vectors of rows and kTokens tokens. Both together
// share each broadcast of activations and each unpacking of weights; they are so many that all sums
// stay in registers.
template <class Isa, WeightType kType, int kVectors, int kTokens>
struct BlockSums {
  using Int = typename Isa::Int;
  static constexpr Format kFormat = format_of(kType);
  static constexpr bool kHalves = kType == WeightType::kQ6_K;  // a scale for each 16 columns
  Int sum[kVectors][kTokens];
  Int first_half[kHalves ? kVectors : 1][kTokens];

  [[gnu::always_inline]] BlockSums(const uint8_t* block, const ActivationBlock* activations) {
    begin(activations);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (kHalves && i == 2) turn(block, activations);
      add_steps(block + kFormat.scale_bytes, activations, i);
    }
  }

  [[gnu::always_inline]] Int product(const uint8_t* block, int v, int t) const {
    if constexpr (kHalves) {
      const Int scales = Isa::scales(block + 16 + v * Isa::kRows);
      return Isa::plus(first_half[v][t], Isa::total_scaled(sum[v][t], scales));
    }
    return kFormat.bits == 8 ? sum[v][t] : Isa::total(sum[v][t]);
  }

 private:
  [[gnu::always_inline]] void begin(const ActivationBlock* activations) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      Int start = Isa::zero();
      if constexpr (kFormat.bits == 8) start = Isa::start8(activations[t].start[0]);
      else if constexpr (kFormat.offset > 0) start = Isa::start(activations[t].start[0]);
      for (int v = 0; v < kVectors; ++v) sum[v][t] = start;
    }
  }

  // Q6_K, from the first 16 columns to the second.
  [[gnu::always_inline]] void turn(const uint8_t* block, const ActivationBlock* activations) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        first_half[v][t] = Isa::total_scaled(sum[v][t], Isa::scales(block + v * Isa::kRows));
        sum[v][t] = Isa::start(activations[t].start[1]);
      }
    }
  }

  [[gnu::always_inline]] void add_steps(const uint8_t* lines, const ActivationBlock* activations,
                                        int i) {
    typename Isa::Int even[kVectors], odd[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const StepPair<Isa, kFormat.bits> steps(lines + 4 * v * Isa::kRows, i);
      even[v] = steps.even;
      odd[v] = steps.odd;
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      add_step(even, Isa::four(activations[t].quants + 8 * i), t);
      add_step(odd, Isa::four(activations[t].quants + 8 * i + 4), t);
    }
  }

  [[gnu::always_inline]] void add_step(const Int* weights, Int activations, int t) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kFormat.bits == 8) sum[v][t] = Isa::dot8(sum[v][t], weights[v], activations);
      else sum[v][t] = Isa::dot(sum[v][t], weights[v], activations);
    }
  }
};

// Adds one block of 32 columns to the sums of kVectors vectors of rows and kTokens tokens. sums[v *
// stride + t].
template <class Isa, WeightType kType, int kVectors, int kTokens>
[[gnu::always_inline]] inline void add_block(const uint8_t* unit, const uint8_t* block,
                                             const ActivationBlock* activations,
                                             typename Isa::Float* sums, int stride) {
  // Or the compiler keeps the broadcasts of a block for the next group of tokens, on the stack.
  asm volatile("" : : : "memory");
  const BlockSums<Isa, kType, kVectors, kTokens> block_sums(block, activations);
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const Factors<Isa, kType> factors(unit, block, v * Isa::kRows);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      auto& sum = sums[v * stride + t];
      const auto factor = Isa::multiply(factors.scale, Isa::all(activations[t].scale));
      sum = Isa::fma(Isa::to_float(block_sums.product(block, v, t)), factor, sum);
      if constexpr (format_of(kType).mins)
        sum = Isa::fma(factors.min, Isa::all(activations[t].scaled_sum), sum);
    }
  }
}

template <class Isa, WeightType kType, int kTokens>
void quantised_panel(const uint8_t* panel, const ActivationBlock* tile, int64_t columns,
                     float* out) {
  constexpr Format kFormat = format_of(kType);
  constexpr int kVectors = kPanelRows / Isa::kRows;
  constexpr int kGroup =
      std::min(kTokens, 8 / kVectors);  // tokens whose sums fit into the registers
  constexpr int kRest = kTokens % kGroup;
  typename Isa::Float sums[kVectors * kTokens];
  for (auto& sum : sums) sum = Isa::all(0.0f);
  const int64_t units = columns / kFormat.unit_columns();
  for (int64_t u = 0; u < units; ++u) {
    const uint8_t* unit = panel + u * kFormat.unit_bytes();
    for (int b = 0; b < kFormat.blocks; ++b) {
      const uint8_t* block = unit + kFormat.header_bytes + b * kFormat.block_bytes();
      for (int line = 0; line < kFormat.block_bytes(); line += kLineBytes) {
        __builtin_prefetch(block + kPrefetchBytes + line);
      }
      for (int t = 0; t + kGroup <= kTokens; t += kGroup) {
        add_block<Isa, kType, kVectors, kGroup>(unit, block, tile + t, sums + t, kTokens);
      }
      if constexpr (kRest > 0) {
        constexpr int kDone = kTokens - kRest;
        add_block<Isa, kType, kVectors, kRest>(unit, block, tile + kDone, sums + kDone, kTokens);
      }
      tile += kTokens;
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int t = 0; t < kTokens; ++t)
      Isa::store(out + t * kPanelRows + v * Isa::kRows, sums[v * kTokens + t]);
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
