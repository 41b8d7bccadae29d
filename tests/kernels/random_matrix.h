// A matrix as a GGUF file holds it, of random bits with scales of ordinary size.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "kernels/pack.h"
#include "kernels/product.h"

namespace aurora::kernels {

inline const std::vector<WeightType> kAllTypes = [] {
  std::vector<WeightType> all;
  for (int i = 0; i < kWeightTypeCount; ++i) all.push_back(static_cast<WeightType>(i));
  return all;
}();

// Byte offsets of the fp16 values in a unit of the file, -1: none.
struct HalfOffsets {
  int first = 0, second = -1;
};

inline HalfOffsets half_offsets(WeightType type) {
  if (type == WeightType::kMXFP4) return {-1, -1};
  if (type == WeightType::kQ6_K) return {208, -1};
  if (type == WeightType::kQ3_K) return {108, -1};
  if (type == WeightType::kQ2_K) return {80, 82};
  return {0, format_of(type).mins ? 2 : -1};
}

inline std::vector<float> random_values(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

inline std::vector<uint8_t> random_file(WeightType type, int64_t rows, int64_t columns,
                                        unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> file(static_cast<size_t>(rows * file_row_bytes(type, columns)));
  for (uint8_t& byte : file) byte = static_cast<uint8_t>(random());
  if (is_float(type)) {  // exponents around 1, no infinities
    if (type == WeightType::kF32) {
      const auto values = random_values(rows * columns, seed);
      std::memcpy(file.data(), values.data(), file.size());
      return file;
    }
    const uint16_t base = type == WeightType::kF16 ? 0x3400 : 0x3e80;
    for (size_t i = 0; i + 1 < file.size(); i += 2) {
      const auto bits = static_cast<uint16_t>((random() & 0x807f) | base);
      std::memcpy(&file[i], &bits, 2);
    }
    return file;
  }
  const auto unit = static_cast<size_t>(file_row_bytes(type, format_of(type).unit_columns()));
  const HalfOffsets halves = half_offsets(type);
  for (size_t at = 0; at < file.size(); at += unit) {
    if (type == WeightType::kMXFP4) file[at] = static_cast<uint8_t>(118 + random() % 8);
    for (int offset : {halves.first, halves.second}) {
      if (offset < 0) continue;
      const auto bits =
          static_cast<uint16_t>((random() & 0x83ff) | 0x2000);  // 2^-7 to 2^-6, both signs
      std::memcpy(&file[at + static_cast<size_t>(offset)], &bits, 2);
    }
  }
  return file;
}

inline std::vector<uint8_t> packed(WeightType type, const std::vector<uint8_t>& file, int64_t rows,
                                   int64_t columns) {
  std::vector<uint8_t> out(packed_bytes(type, rows, columns));
  pack_panels(type, file.data(), rows, columns, 0, (rows + kPanelRows - 1) / kPanelRows,
              out.data());
  return out;
}

// The product of all tokens on one backend, in `threads` equal shares taken one after the other.
inline std::vector<float> product(const Backend& backend, const Matrix& matrix,
                                  const std::vector<float>& values, int64_t tokens,
                                  int64_t threads = 1) {
  std::vector<std::max_align_t> activations(
      activation_bytes(matrix.type, tokens, matrix.columns) / sizeof(std::max_align_t) + 1);
  std::vector<float> out(static_cast<size_t>(matrix.rows * tokens), -1e30f);
  for (int64_t i = 0; i < threads; ++i) {
    const int64_t blocks = matrix.columns / kBlock;
    for (int64_t t = 0; t < tokens; ++t) {
      round_token(backend, matrix, t, tokens, values.data() + t * matrix.columns,
                  blocks * i / threads * kBlock, blocks * (i + 1) / threads * kBlock,
                  activations.data());
    }
  }
  for (int64_t i = 0; i < threads; ++i) {
    multiply_panels(backend, matrix, activations.data(), tokens, matrix.panels() * i / threads,
                    matrix.panels() * (i + 1) / threads, {out.data(), matrix.rows});
  }
  return out;
}

}  // namespace aurora::kernels
