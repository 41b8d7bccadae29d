// One block of 32 columns of a panel, read from its packed form or from a copy that has been taken
// apart. Include it only where vector_panel.h is included.
#pragma once

#include "kernels/format.h"

namespace aurora::kernels {

// Unpacks steps 2 i and 2 i + 1 of one vector of rows.
template <class Isa, WeightType kType>
struct StepPair {
  static constexpr Format kFormat = format_of(kType);
  typename Isa::Int even, odd;

  StepPair() = default;
  StepPair(const uint8_t* lines, int i) {
    if constexpr (kFormat.bits == 8) {
      even = Isa::load(lines + 128 * i);
      odd = Isa::load(lines + 128 * i + 64);
    } else if constexpr (kFormat.bits < 4) {
      const auto packed = Isa::load(lines + 64 * (i / 2));
      even = Isa::pick(packed, -4 * (i % 2), 3);
      odd = Isa::pick(packed, -4 * (i % 2) - 2, 3);
      if constexpr (kFormat.bits == 3) add(Isa::load(lines + 128), -2 * i, 1, 2, 1);
    } else {
      const auto packed = Isa::load(lines + 64 * i);
      even = Isa::pick(packed, 0, 15);
      odd = Isa::pick(packed, -4, 15);
      if constexpr (kFormat.bits == 5) add(Isa::load(lines + 256), -2 * i, 1, 4, 1);
      if constexpr (kFormat.bits == 6)
        add(Isa::load(lines + 256 + 64 * (i / 2)), -4 * (i % 2), 3, 4, 2);
      if constexpr (kFormat.codes != Codes::kNone) {
        even = Isa::lookup(values_of(kFormat.codes), even);
        odd = Isa::lookup(values_of(kFormat.codes), odd);
      }
    }
  }

 private:
  // The upper bits of a quant: of the even step from bit -`left` on, of the odd one `width` bits
  // further, to bit `place`.
  [[gnu::always_inline]] void add(typename Isa::Int bits, int left, int mask, int place,
                                  int width) {
    even = Isa::either(even, Isa::pick(bits, left + place, mask << place));
    odd = Isa::either(odd, Isa::pick(bits, left + place - width, mask << place));
  }
};

// Factors of one vector of rows in one block: value = scale * product + min * sum of the
// activations.
template <class Isa, WeightType kType>
struct Factors {
  static constexpr Format kFormat = format_of(kType);
  static constexpr bool kTwoMins = kFormat.mins && kFormat.halves;
  typename Isa::Float scale, min, second_min;

  Factors() = default;
  Factors(const uint8_t* unit, const uint8_t* block, int row) : min{}, second_min{} {
    const uint8_t* fp16 = (kFormat.header_bytes ? unit : block) + 2 * row;
    scale = kType == WeightType::kMXFP4 ? Isa::bfloats(fp16) : Isa::halves(fp16);
    if constexpr (kType == WeightType::kIQ4_XS)
      scale = Isa::multiply(scale, Isa::signed_bytes(block + row));
    if constexpr (kTwoMins) {
      const auto both = Isa::halves(fp16 + 32);
      min = Isa::multiply(both, Isa::negative(Isa::bytes(block + 32 + row)));
      second_min = Isa::multiply(both, Isa::negative(Isa::bytes(block + 48 + row)));
    } else if constexpr (kFormat.mins) {
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

// A block as it lies in the matrix: unpacked in registers by whoever reads it.
template <class Isa, WeightType kType>
struct PackedBlock {
  using Int = typename Isa::Int;
  static constexpr Format kFormat = format_of(kType);
  const uint8_t* unit;
  const uint8_t* block;

  StepPair<Isa, kType> steps(int vector, int i) const {
    return {block + kFormat.scale_bytes + 4 * vector * Isa::kRows, i};
  }
  Factors<Isa, kType> factors(int vector) const { return {unit, block, vector * Isa::kRows}; }
  // Of 16 columns.
  Int scales(int half, int vector) const {
    return Isa::scales(block + 16 * half + vector * Isa::kRows);
  }
};

// The same, taken apart once for many tokens: a byte a quant, factors ready. Small enough to stay
// in the first level cache while every group of tokens reads it.
template <class Isa, WeightType kType>
class UnpackedBlock {
 public:
  using Int = typename Isa::Int;
  static constexpr Format kFormat = format_of(kType);
  static constexpr int kVectors = kPanelRows / Isa::kRows;

  void take_apart(const PackedBlock<Isa, kType>& packed) {
    lines_ = packed.block + kFormat.scale_bytes;
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kFormat.bits != 8) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const auto pair = packed.steps(v, i);
          quants_[2 * i][v] = pair.even;
          quants_[2 * i + 1][v] = pair.odd;
        }
      }
      if constexpr (kFormat.halves) {
        for (int half = 0; half < 2; ++half) scales_[half][v] = packed.scales(half, v);
      }
      const auto factors = packed.factors(v);
      scale_[v] = factors.scale;
      min_[v] = factors.min;
      if constexpr (Factors<Isa, kType>::kTwoMins) second_min_[v] = factors.second_min;
    }
  }

  StepPair<Isa, kType> steps(int vector, int i) const {
    if constexpr (kFormat.bits == 8) return {lines_ + 4 * vector * Isa::kRows, i};
    StepPair<Isa, kType> pair;
    pair.even = quants_[2 * i][vector];
    pair.odd = quants_[2 * i + 1][vector];
    return pair;
  }
  Factors<Isa, kType> factors(int vector) const {
    Factors<Isa, kType> ready;
    ready.scale = scale_[vector];
    ready.min = min_[vector];
    if constexpr (Factors<Isa, kType>::kTwoMins) ready.second_min = second_min_[vector];
    return ready;
  }
  Int scales(int half, int vector) const { return scales_[half][vector]; }

 private:
  const uint8_t* lines_ = nullptr;  // bytes need no unpacking
  // Vectors, not structs of them: GCC 12 copies a struct in halves, and a vector that has been
  // written in halves cannot be read back at once.
  Int quants_[8][kVectors];
  Int scales_[2][kVectors];
  typename Isa::Float scale_[kVectors], min_[kVectors], second_min_[kVectors];
};

}  // namespace aurora::kernels
