// A name or a number as an even share of [0, 1): the same on every machine and in every run. Who
// shall take part ("share below the rate") or when ("share of the window") needs no coordination
// then.
#pragma once

#include <cstdint>
#include <string_view>

namespace aurora {

// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
// OOPSLA 2014): numbers in a row come out unrelated.
constexpr double hash_share(uint64_t number) {
  uint64_t x = number + 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  x ^= x >> 31;
  return static_cast<double>(x >> 11) * 0x1p-53;
}

// By FNV-1a first, which alone leaves names that differ in their last letter close to each other.
constexpr double hash_share(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash_share(hash);
}

}  // namespace aurora
