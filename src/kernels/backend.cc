#include "kernels/backend.h"

#include <cstdlib>
#include <cstring>
#include <vector>

namespace aurora::kernels {

#if defined(__x86_64__)
const Backend& avx2_backend();
const Backend& avx_vnni_backend();
const Backend& avx512_vnni_backend();
#endif

namespace {

std::vector<const Backend*> find_usable() {
  std::vector<const Backend*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vnni")) {
    found.push_back(&avx512_vnni_backend());
  }
  if (avx2 && __builtin_cpu_supports("avxvnni")) found.push_back(&avx_vnni_backend());
  if (avx2) found.push_back(&avx2_backend());
#endif
  found.push_back(&portable_backend());
  return found;
}

}  // namespace

std::span<const Backend* const> usable_backends() {
  static const std::vector<const Backend*> kUsable = find_usable();
  return kUsable;
}

const Backend& backend() {
  static const Backend& kChosen = []() -> const Backend& {
    const char* wanted = std::getenv("AURORA_KERNELS");
    for (const Backend* usable : usable_backends()) {
      if (wanted && std::strcmp(wanted, usable->name) == 0) return *usable;
    }
    return *usable_backends().front();
  }();
  return kChosen;
}

}  // namespace aurora::kernels
