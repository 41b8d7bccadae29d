// The products written once over a set of vector operations (`Isa`), which each backend's .cc file
// defines for its instruction set and then instantiates. Include it only there: the code must be
// compiled with that file's flags.
//
// Isa: kRows (rows a vector covers: 8 or 16), group(signed quants) (tokens whose sums over all rows
// of a panel stay in registers), Int, Float, and the operations used below. The integer part of a
// block is exact in every Isa, the fp32 part is the same sequence of operations, so all give the
// same bits as portable.cc.
#pragma once

#include <utility>

#include "kernels/backend.h"
#include "kernels/vector_block.h"

namespace aurora::kernels {

// Weights stream from memory while a batch keeps the core busy: asked for this far ahead.
inline constexpr int kLineBytes = 64;
inline constexpr int kPrefetchBytes = 8192;

// Exact integer sums of one block (a PackedBlock or an UnpackedBlock) for all rows of the panel and
// kTokens tokens. Both together share each broadcast of activations and each weight that is read;
// they are so many that all sums stay in registers.
template <class Isa, WeightType kType, int kTokens>
struct BlockSums {
  using Int = typename Isa::Int;
  static constexpr Format kFormat = format_of(kType);
  static constexpr int kVectors = kPanelRows / Isa::kRows;
  static constexpr bool kHalves = kFormat.halves;
  static constexpr bool kSigned = kFormat.signed_quants;
  Int sum[kVectors][kTokens];
  Int first_half[kHalves ? kVectors : 1][kTokens];

  template <class Block>
  [[gnu::always_inline]] BlockSums(const Block& block, const ActivationBlock* activations) {
    begin(activations);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (kHalves && i == 2) turn(block, activations);
      add_steps(block, activations, i);
    }
  }

  template <class Block>
  [[gnu::always_inline]] Int product(const Block& block, int v, int t) const {
    if constexpr (kHalves) {
      return Isa::plus(first_half[v][t], Isa::total_scaled(sum[v][t], block.scales(1, v)));
    }
    return kSigned ? sum[v][t] : Isa::total(sum[v][t]);
  }

 private:
  // Unsigned quants without an offset start from their first product.
  static constexpr bool kFromZero = kFormat.offset == 0;

  [[gnu::always_inline]] void begin(const ActivationBlock* activations) {
    if constexpr (kFromZero) return;
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const int32_t bits = activations[t].start[0];
      const Int start = kSigned ? Isa::start8(bits) : Isa::start(bits);
      for (int v = 0; v < kVectors; ++v) sum[v][t] = start;
    }
  }

  // From the first 16 columns to the second.
  template <class Block>
  [[gnu::always_inline]] void turn(const Block& block, const ActivationBlock* activations) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        first_half[v][t] = Isa::total_scaled(sum[v][t], block.scales(0, v));
        sum[v][t] = kFromZero ? Isa::zero() : Isa::start(activations[t].start[1]);
      }
    }
  }

  template <class Block>
  [[gnu::always_inline]] void add_steps(const Block& block, const ActivationBlock* activations,
                                        int i) {
    typename Isa::Int even[kVectors], odd[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const auto steps = block.steps(v, i);
      even[v] = steps.even;
      odd[v] = steps.odd;
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      add_step(even, Isa::four(activations[t].quants + 8 * i), t, kFromZero && i == 0);
      if (!kSigned) add_step(odd, Isa::four(activations[t].quants + 8 * i + 4), t, false);
    }
    if (!kSigned) return;
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      add_step(odd, Isa::four(activations[t].quants + 8 * i + 4), t, false);
    }
  }

  [[gnu::always_inline]] void add_step(const Int* weights, Int activations, int t, bool first) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kSigned) sum[v][t] = Isa::dot8(sum[v][t], weights[v], activations);
      else if (first) sum[v][t] = Isa::first_dot(weights[v], activations);
      else sum[v][t] = Isa::dot(sum[v][t], weights[v], activations);
    }
  }
};

// Adds one block of 32 columns to the sums of kTokens tokens, sums[token * vectors + vector].
template <class Isa, WeightType kType, int kTokens, class Block>
[[gnu::always_inline]] inline void add_block(const Block& block, const ActivationBlock* activations,
                                             typename Isa::Float* sums) {
  constexpr int kVectors = kPanelRows / Isa::kRows;
  // Or the compiler keeps the broadcasts of a block for the next group of tokens, on the stack.
  asm volatile("" : : : "memory");
  const BlockSums<Isa, kType, kTokens> block_sums(block, activations);
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const Factors<Isa, kType> factors = block.factors(v);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      auto& sum = sums[t * kVectors + v];
      const auto factor = Isa::multiply(factors.scale, Isa::all(activations[t].scale));
      sum = Isa::fma(Isa::to_float(block_sums.product(block, v, t)), factor, sum);
      if constexpr (Factors<Isa, kType>::kTwoMins) {
        sum = Isa::fma(factors.min, Isa::all(activations[t].half_sum(0)), sum);
        sum = Isa::fma(factors.second_min, Isa::all(activations[t].half_sum(1)), sum);
      } else if constexpr (format_of(kType).mins) {
        sum = Isa::fma(factors.min, Isa::all(activations[t].scaled_sum), sum);
      }
    }
  }
}

// Calls add(block) for each block of a panel, from the first column to the last.
template <class Isa, WeightType kType, class Add>
[[gnu::always_inline]] inline void each_block(const uint8_t* panel, int64_t columns,
                                              const Add& add) {
  constexpr Format kFormat = format_of(kType);
  const int64_t units = columns / kFormat.unit_columns();
  for (int64_t u = 0; u < units; ++u) {
    const uint8_t* unit = panel + u * kFormat.unit_bytes();
    for (int b = 0; b < kFormat.blocks; ++b) {
      const uint8_t* block = unit + kFormat.header_bytes + b * kFormat.block_bytes();
      for (int line = 0; line < kFormat.block_bytes(); line += kLineBytes) {
        __builtin_prefetch(block + kPrefetchBytes + line);
      }
      add(PackedBlock<Isa, kType>{unit, block});
    }
  }
}

// Few tokens: the sums of all of them fit the registers, so weights are unpacked there.
template <class Isa, WeightType kType, int kTokens>
void narrow_panel(const uint8_t* panel, const ActivationBlock* tile, int64_t columns, float* out) {
  constexpr int kVectors = kPanelRows / Isa::kRows;
  typename Isa::Float sums[kVectors * kTokens];
  for (auto& sum : sums) sum = Isa::all(0.0f);
  each_block<Isa, kType>(panel, columns, [&](const PackedBlock<Isa, kType>& block) {
    add_block<Isa, kType, kTokens>(block, tile, sums);
    tile += kTokens;
  });
  for (int i = 0; i < kVectors * kTokens; ++i) Isa::store(out + i * Isa::kRows, sums[i]);
}

// Groups of kLarge tokens, then groups of one less.
struct Groups {
  int large, small;
};

// Many tokens: each block is taken apart once, for all groups.
template <class Isa, WeightType kType, int kLarge>
void wide_panel(const uint8_t* panel, const ActivationBlock* tile, int64_t columns, Groups groups,
                float* out) {
  constexpr int kVectors = kPanelRows / Isa::kRows;
  typename Isa::Float sums[kVectors * kTileTokens];
  const int tokens = groups.large * kLarge + groups.small * (kLarge - 1);
  for (int i = 0; i < kVectors * tokens; ++i) sums[i] = Isa::all(0.0f);
  UnpackedBlock<Isa, kType> unpacked;
  each_block<Isa, kType>(panel, columns, [&](const PackedBlock<Isa, kType>& block) {
    unpacked.take_apart(block);
    auto* group_sums = sums;
    for (int g = 0; g < groups.large; ++g, tile += kLarge, group_sums += kVectors * kLarge) {
      add_block<Isa, kType, kLarge>(unpacked, tile, group_sums);
    }
    constexpr int kSmall = kLarge - 1;
    for (int g = 0; g < groups.small; ++g, tile += kSmall, group_sums += kVectors * kSmall) {
      add_block<Isa, kType, kSmall>(unpacked, tile, group_sums);
    }
  });
  for (int i = 0; i < kVectors * tokens; ++i) Isa::store(out + i * Isa::kRows, sums[i]);
}

// Tokens of a group at most.
template <class Isa, WeightType kType>
inline constexpr int kGroup = Isa::group(format_of(kType).signed_quants);

// Chooses by the number of tokens: up to kGroup in one group, more in groups that differ by one
// token at most.
template <class Isa, WeightType kType, int kTokens = kGroup<Isa, kType>>
void quantised_panel(const uint8_t* panel, const ActivationBlock* tile, int64_t columns, int tokens,
                     float* out) {
  constexpr int kMost = kGroup<Isa, kType>;
  const int groups = (tokens + kMost - 1) / kMost;
  const int large = (tokens + groups - 1) / groups;
  if constexpr (kTokens > 1) {
    if (large < kTokens) {
      return quantised_panel<Isa, kType, kTokens - 1>(panel, tile, columns, tokens, out);
    }
  }
  if (groups == 1) return narrow_panel<Isa, kType, kTokens>(panel, tile, columns, out);
  if constexpr (2 * kTokens > kMost) {  // of two groups or more the largest is over half
    const int small = groups * kTokens - tokens;
    wide_panel<Isa, kType, kTokens>(panel, tile, columns, {groups - small, small}, out);
  }
}

// The weights of one vector of rows in one column.
template <class Isa, WeightType kType>
[[gnu::always_inline]] inline typename Isa::Float float_weights(const uint8_t* panel,
                                                                int64_t index) {
  if constexpr (kType == WeightType::kF32) return Isa::floats(panel + 4 * index);
  if constexpr (kType == WeightType::kBF16) return Isa::bfloats(panel + 2 * index);
  return Isa::halves(panel + 2 * index);
}

template <class Isa, WeightType kType, int kTokens>
void float_group(const uint8_t* panel, const float* tile, int64_t columns, int stride, float* out) {
  for (int row = 0; row < kPanelRows; row += Isa::kRows) {
    typename Isa::Float sums[kTokens];
    for (auto& sum : sums) sum = Isa::all(0.0f);
    for (int64_t k = 0; k < columns; ++k) {
      const auto weights = float_weights<Isa, kType>(panel, kPanelRows * k + row);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        sums[t] = Isa::fma(weights, Isa::all(tile[k * stride + t]), sums[t]);
      }
    }
    for (int t = 0; t < kTokens; ++t) Isa::store(out + t * kPanelRows + row, sums[t]);
  }
}

// Groups of up to eight tokens.
template <class Isa, WeightType kType, int kTokens = 8>
void float_panel(const uint8_t* panel, const float* tile, int64_t columns, int tokens, float* out,
                 int done = 0) {
  for (; done + kTokens <= tokens; done += kTokens) {
    float_group<Isa, kType, kTokens>(panel, tile + done, columns, tokens, out + done * kPanelRows);
  }
  if constexpr (kTokens > 1) {
    if (done < tokens)
      float_panel<Isa, kType, kTokens - 1>(panel, tile, columns, tokens, out, done);
  }
}

template <class Isa, WeightType kType>
void vector_panel(const uint8_t* panel, const void* tile, int64_t columns, int tokens, float* out) {
  if constexpr (is_float(kType)) {
    float_panel<Isa, kType>(panel, static_cast<const float*>(tile), columns, tokens, out);
  } else {
    quantised_panel<Isa, kType>(panel, static_cast<const ActivationBlock*>(tile), columns, tokens,
                                out);
  }
}

template <class Isa, int... kTypes>
Backend make_backend(const char* name, QuantizeFunction quantize,
                     std::integer_sequence<int, kTypes...>) {
  return {name, {vector_panel<Isa, static_cast<WeightType>(kTypes)>...}, quantize};
}

template <class Isa>
Backend make_backend(const char* name, QuantizeFunction quantize) {
  return make_backend<Isa>(name, quantize, std::make_integer_sequence<int, kWeightTypeCount>());
}

}  // namespace aurora::kernels
