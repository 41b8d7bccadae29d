// Mutations of a seed, as a fuzzer makes them, for tests that drive a fuzz target with any
// compiler.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <random>
#include <string>

namespace aurora {

// Within the first `header_bytes`, where the numbers are that say what the rest is. A count that
// lies is the likeliest attack on a reader: whole numbers go in beside single bytes.
inline void mutate(std::mt19937& rng, std::string& bytes, size_t header_bytes) {
  constexpr uint64_t kNasty[] = {0, 1, 0x7f, 0xff, 0x7fffffff, 0xffffffff, ~0ull >> 1, ~0ull};
  const size_t at = rng() % std::min(bytes.size(), header_bytes);
  switch (rng() % 5) {
    case 0: bytes[at] = static_cast<char>(rng()); break;
    case 1: bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng() % 8)); break;
    case 2: {
      const uint64_t value = kNasty[rng() % std::size(kNasty)];
      const size_t width = size_t{1} << rng() % 4;
      std::memcpy(&bytes[at], &value, std::min(width, bytes.size() - at));
      break;
    }
    case 3: bytes.resize(rng() % bytes.size() + 1); break;
    case 4: bytes.insert(at, rng() % 32, '\0'); break;
  }
}

}  // namespace aurora
