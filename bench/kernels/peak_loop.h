// What a core can do at most: the multiply-adds of a backend's dot product in registers, with no
// loads, no unpacking and no scales.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/backend.h"

namespace aurora::kernels {

#if defined(__x86_64__)
// Eight sums, so that none waits for its last addition. One round is eight steps of 32 products
// (avx512-vnni: of 64). Aligned: unaligned it took up to a quarter longer.
#define AURORA_EIGHT(STEP) STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
#define AURORA_LOOP(STEP)                                                                        \
  asm volatile(".p2align 6\n1:\n\t" AURORA_EIGHT(STEP) "dec %0\n\tjnz 1b"                        \
               : "+r"(rounds)                                                                    \
               :                                                                                 \
               : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                 "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc")

inline void avx2_rounds(int64_t rounds) {
#define AURORA_STEP(i)                      \
  "vpmaddubsw %%ymm15, %%ymm15, %%ymm8\n\t" \
  "vpaddw %%ymm8, %%ymm" #i ", %%ymm" #i "\n\t"
  AURORA_LOOP(AURORA_STEP);
#undef AURORA_STEP
}

inline void avx_vnni_rounds(int64_t rounds) {
#define AURORA_STEP(i) "%{vex%} vpdpbusd %%ymm15, %%ymm15, %%ymm" #i "\n\t"
  AURORA_LOOP(AURORA_STEP);
#undef AURORA_STEP
}

inline void avx512_vnni_rounds(int64_t rounds) {
#define AURORA_STEP(i) "vpdpbusd %%zmm15, %%zmm15, %%zmm" #i "\n\t"
  AURORA_LOOP(AURORA_STEP);
#undef AURORA_STEP
}
#undef AURORA_LOOP
#undef AURORA_EIGHT
#endif

// Runs `rounds` rounds and returns how many multiply-adds that was; 0: no loop for this backend.
inline double peak_rounds(const Backend& backend, int64_t rounds) {
#if defined(__x86_64__)
  const auto is = [&](const char* name) { return std::strcmp(backend.name, name) == 0; };
  if (is("avx2")) return avx2_rounds(rounds), 8.0 * 32 * static_cast<double>(rounds);
  if (is("avx-vnni")) return avx_vnni_rounds(rounds), 8.0 * 32 * static_cast<double>(rounds);
  if (is("avx512-vnni")) return avx512_vnni_rounds(rounds), 8.0 * 64 * static_cast<double>(rounds);
#endif
  return 0;
}

}  // namespace aurora::kernels
