// AVX-VNNI: as AVX2, with four products a lane summed in 32 bits by one instruction.
#include "kernels/isa_256.h"
#include "kernels/quantize_256.h"
#include "kernels/vector_panel.h"

namespace aurora::kernels {
namespace {

struct AvxVnni : Isa256 {
  static constexpr int group(bool) { return 4; }
  static Int start(int32_t pair) {
    return _mm256_madd_epi16(_mm256_set1_epi32(pair), _mm256_set1_epi16(1));
  }
  static Int start8(int32_t value) { return _mm256_set1_epi32(value); }
  static Int dot(Int sum, Int weights, Int activations) {
    return _mm256_dpbusd_avx_epi32(sum, weights, activations);
  }
  static Int first_dot(Int weights, Int activations) { return dot(zero(), weights, activations); }
  static Int dot8(Int sum, Int weights, Int activations) {
    return dot(sum, _mm256_xor_si256(weights, _mm256_set1_epi8(-128)), activations);
  }
  static Int total(Int sum) { return sum; }
  static Int scales(const uint8_t* at) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
  }
  static Int total_scaled(Int sum, Int scale) { return _mm256_mullo_epi32(sum, scale); }
};

}  // namespace

const Backend& avx_vnni_backend() {
  static const Backend kBackend = make_backend<AvxVnni>("avx-vnni", quantize_256);
  return kBackend;
}

}  // namespace aurora::kernels
