// AVX2 + FMA + F16C. A product of unsigned and signed bytes sums pairs in 16 bits; format.h's
// offsets keep every sum of a block (Q6_K: of half a block) inside 16 bits, so the widening to 32
// bits happens once a block.
#include "kernels/isa_256.h"
#include "kernels/quantize_256.h"
#include "kernels/vector_panel.h"

namespace aurora::kernels {
namespace {

struct Avx2 : Isa256 {
  static Int start(int32_t pair) { return _mm256_set1_epi32(pair); }
  static Int start8(int32_t) { return zero(); }  // dot8 takes signed quants as they are
  // In assembly: GCC 12 computes all products of a block first and keeps them on the stack, at half
  // the speed.
  static Int dot(Int sum, Int weights, Int activations) {
    Int pairs;
    asm("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
        : "+x"(sum), "=&x"(pairs)
        : "x"(weights), "x"(activations));
    return sum;
  }
  static Int dot8(Int sum, Int weights, Int activations) {
    const Int pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(activations, weights));
    return _mm256_add_epi32(sum, total(pairs));
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
