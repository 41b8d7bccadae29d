// AVX-512 with VNNI: all 16 rows of a panel in one register.
#include <immintrin.h>

#include "kernels/isa_256.h"
#include "kernels/quantize_256.h"
#include "kernels/vector_panel.h"

namespace aurora::kernels {
namespace {

struct Avx512Vnni {
  static constexpr int kRows = 16;
  static constexpr int group(bool) { return 8; }
  using Int = __m512i;
  using Float = __m512;

  static Int zero() { return _mm512_setzero_si512(); }
  static Int load(const uint8_t* at) { return _mm512_loadu_si512(at); }
  static Int either(Int a, Int b) { return _mm512_or_si512(a, b); }
  static Int pick(Int bits, int left, int mask) {
    const Int moved = left >= 0 ? _mm512_slli_epi16(bits, static_cast<unsigned>(left))
                                : _mm512_srli_epi16(bits, static_cast<unsigned>(-left));
    return _mm512_and_si512(moved, _mm512_set1_epi8(static_cast<char>(mask)));
  }
  static Int lookup(const int8_t* table, Int codes) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), codes);
  }
  static Int four(const int8_t* quants) {
    int32_t bits;
    std::memcpy(&bits, quants, sizeof bits);
    return _mm512_set1_epi32(bits);
  }
  static Int plus(Int a, Int b) { return _mm512_add_epi32(a, b); }

  static Int start(int32_t pair) {
    return _mm512_madd_epi16(_mm512_set1_epi32(pair), _mm512_set1_epi16(1));
  }
  static Int start8(int32_t value) { return _mm512_set1_epi32(value); }
  static Int dot(Int sum, Int weights, Int activations) {
    return _mm512_dpbusd_epi32(sum, weights, activations);
  }
  static Int first_dot(Int weights, Int activations) { return dot(zero(), weights, activations); }
  static Int dot8(Int sum, Int weights, Int activations) {
    return dot(sum, _mm512_xor_si512(weights, _mm512_set1_epi8(-128)), activations);
  }
  static Int total(Int sum) { return sum; }
  static Int scales(const uint8_t* at) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static Int total_scaled(Int sum, Int scale) { return _mm512_mullo_epi32(sum, scale); }

  static Float all(float x) { return _mm512_set1_ps(x); }
  static Float to_float(Int x) { return _mm512_cvtepi32_ps(x); }
  static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float negative(Float a) {
    return _mm512_castsi512_ps(
        _mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(static_cast<int>(0x80000000u))));
  }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float halves(const uint8_t* at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  static Float floats(const uint8_t* at) { return _mm512_loadu_ps(at); }
  static Float bfloats(const uint8_t* at) {
    const Int wide =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static Float bytes(const uint8_t* at) {
    return to_float(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))));
  }
  static Float signed_bytes(const uint8_t* at) {
    return to_float(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))));
  }
  static void store(float* at, Float x) { _mm512_storeu_ps(at, x); }
};

}  // namespace

const Backend& avx512_vnni_backend() {
  static const Backend kBackend = make_backend<Avx512Vnni>("avx512-vnni", quantize_256);
  return kBackend;
}

}  // namespace aurora::kernels
