// Vector operations of 256 bits that all three 256-bit backends share: 8 rows. Include only in a
// backend's .cc file.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace aurora::kernels {
namespace {

struct Isa256 {
  static constexpr int kRows = 8;
  using Int = __m256i;
  using Float = __m256;

  static Int zero() { return _mm256_setzero_si256(); }
  static Int load(const uint8_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  }
  static Int either(Int a, Int b) { return _mm256_or_si256(a, b); }
  // The bits of `mask` in each byte, from `left` bits below (above, where it is negative).
  static Int pick(Int bits, int left, int mask) {
    const Int moved = left >= 0 ? _mm256_slli_epi16(bits, left) : _mm256_srli_epi16(bits, -left);
    return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(mask)));
  }
  static Int lookup(const int8_t* table, Int codes) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), codes);
  }
  // Four activations to every row.
  static Int four(const int8_t* quants) {
    int32_t bits;
    std::memcpy(&bits, quants, sizeof bits);
    return _mm256_set1_epi32(bits);
  }
  static Int plus(Int a, Int b) { return _mm256_add_epi32(a, b); }

  static Float all(float x) { return _mm256_set1_ps(x); }
  static Float to_float(Int x) { return _mm256_cvtepi32_ps(x); }
  static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float negative(Float a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float halves(const uint8_t* at) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static Float floats(const uint8_t* at) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(at));
  }
  static Float bfloats(const uint8_t* at) {
    const Int wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static Float bytes(const uint8_t* at) {
    return to_float(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
  }
  static Float signed_bytes(const uint8_t* at) {
    return to_float(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
  }
  static void store(float* at, Float x) { _mm256_storeu_ps(at, x); }
};

}  // namespace
}  // namespace aurora::kernels
