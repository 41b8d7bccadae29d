// AVX2 + FMA + F16C. A product of unsigned and signed bytes sums pairs in 16 bits; format.h's
// offsets keep every sum of a block (or of what has one scale) inside 16 bits, so the widening to
// 32 bits happens once a block.
#include "kernels/isa_256.h"
#include "kernels/quantize_256.h"
#include "kernels/vector_panel.h"

namespace aurora::kernels {
namespace {

struct Avx2 : Isa256 {
  // dot8 needs registers of its own.
  static constexpr int group(bool signed_quants) { return signed_quants ? 4 : 6; }
  static Int start(int32_t pair) { return _mm256_set1_epi32(pair); }
  static Int start8(int32_t) { return zero(); }  // dot8 takes signed quants as they are
  // In assembly: GCC 12 computes all products of a block first and keeps them on the stack, at half
  // the speed.
  static Int dot(Int sum, Int weights, Int activations) {
    Int pairs, result;
    asm("vpmaddubsw %4, %3, %1\n\tvpaddw %1, %2, %0"
        : "=x"(result), "=&x"(pairs)
        : "x"(sum), "x"(weights), "x"(activations));
    return result;
  }
  static Int first_dot(Int weights, Int activations) {
    Int pairs;
    asm("vpmaddubsw %2, %1, %0" : "=x"(pairs) : "x"(weights), "x"(activations));
    return pairs;
  }
  // Of the weight's size and the activation with the weight's sign; each pair fits 16 bits, a sum
  // of them does not.
  static Int dot8(Int sum, Int weights, Int activations) {
    Int pairs, result;
    asm("vpsignb %3, %4, %1\n\tvpmaddubsw %1, %5, %1\n\tvpmaddwd %6, %1, %1\n\tvpaddd %1, %2, %0"
        : "=x"(result), "=&x"(pairs)
        : "x"(sum), "x"(weights), "x"(activations), "x"(_mm256_abs_epi8(weights)),
          "xm"(_mm256_set1_epi16(1)));
    return result;
  }
  static Int total(Int pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
  static Int scales(const uint8_t* at) {  // each of 8 signed scales as a pair of int16
    const Int wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
    return _mm256_blend_epi16(wide, _mm256_slli_epi32(wide, 16), 0xaa);
  }
  static Int total_scaled(Int pairs, Int scale) { return _mm256_madd_epi16(pairs, scale); }
};

}  // namespace

const Backend& avx2_backend() {
  static const Backend kBackend = make_backend<Avx2>("avx2", quantize_256);
  return kBackend;
}

}  // namespace aurora::kernels
