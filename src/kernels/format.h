// How a weight matrix lies in memory for our matrix products, for every type of tensor they take.
//
// Rows are packed in panels of 16. A panel is a run of units; a unit holds the same 32 columns (the
// K types: 256) of all 16 rows. A unit is [header][block]..., a block is [scales][quants] of 32
// columns:
//   header   K types and IQ4_XS: 16 fp16 d;  with mins: then 16 fp16 dmin
//   scales   Q4_0 Q5_0 Q8_0 IQ4_NL: 16 fp16 d;  Q4_1 Q5_1: 16 fp16 d, 16 fp16 m;  MXFP4: 16 bf16 d;
//            Q4_K Q5_K: 16 u8 scale, 16 u8 min;  IQ4_XS: 16 i8 scale;
//            Q3_K Q6_K: 16 i8 scale of columns 0..15, 16 i8 scale of columns 16..31;  Q2_K: the
//            same, then 16 u8 min of either half
//   quants   a step is 4 columns of 16 rows, byte 4 * row + column: 64 bytes, 8 steps a block.
//            Q2, Q3: two lines of 64 bytes, bits 2 m and 2 m + 1 of a byte of line j belong to step
//            4 j + m;  Q3: then one line, bit s of a byte belongs to step s.
//            Four bits and more: four lines, step 2 i in the low half of line i, step 2 i + 1 in
//            the high half; Q5: then one line as for Q3;  Q6: then two lines as for Q2;  Q8_0:
//            eight lines of signed bytes, one a step.
// F16, BF16, F32: for each column 16 values as the file has them.
// Rows are padded with zeros to a multiple of 16.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aurora::kernels {

inline constexpr int kPanelRows = 16;
inline constexpr int kBlock = 32;       // columns that share one activation scale
inline constexpr int kTileTokens = 32;  // most tokens that share one unpacking of the weights

enum class WeightType : uint8_t {
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
  kF16,
  kBF16,
  kF32
};
inline constexpr int kWeightTypeCount = 16;

constexpr const char* name_of(WeightType type) {
  constexpr const char* kNames[] = {"Q4_0",  "Q4_1", "Q5_0", "Q5_1", "Q8_0",   "Q2_K",
                                    "Q3_K",  "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
                                    "MXFP4", "F16",  "BF16", "F32"};
  return kNames[static_cast<int>(type)];
}

// Quants that are looked up: codes of four bits.
enum class Codes : uint8_t { kNone, kIq4, kFp4 };

// What the kernels need to know of a quantised type at compile time.
struct Format {
  int bits;                    // of a quant
  int blocks;                  // of 32 columns in a unit
  int header_bytes;            // of a unit
  int scale_bytes;             // of a block
  int offset;                  // subtracted from the stored (unsigned) quant
  bool mins = false;           // a term that does not depend on the quant: value = d * q + m
  bool halves = false;         // a scale (and min) for each 16 columns
  bool signed_quants = false;  // as they are multiplied: taken as bytes of -127 to 127
  Codes codes = Codes::kNone;

  constexpr int quant_bytes() const { return kPanelRows * kBlock * bits / 8; }
  constexpr int block_bytes() const { return scale_bytes + quant_bytes(); }
  constexpr int unit_bytes() const { return header_bytes + blocks * block_bytes(); }
  constexpr int unit_columns() const { return blocks * kBlock; }
};

// Values of the four-bit codes as ggml-common.h has them; those of MXFP4 (OCP Microscaling Formats
// 1.0, E2M1, doubled) with 12 added.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr int8_t kFp4Values[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                          12, 11, 10, 9,  8,  6,  4,  0};

constexpr const int8_t* values_of(Codes codes) {
  return codes == Codes::kIq4 ? kIq4Values : kFp4Values;
}

constexpr Format format_of(WeightType type) {
  constexpr bool kMins = true, kNoMins = false, kHalves = true, kNoHalves = false, kSigned = true;
  constexpr int kToUnsigned = 128;
  switch (type) {  // bits, blocks, bytes of header and scales, offset; then what is not usual
    case WeightType::kQ4_0: return {4, 1, 0, 32, 8};
    case WeightType::kQ4_1: return {4, 1, 0, 64, 0, kMins};
    case WeightType::kQ5_0: return {5, 1, 0, 32, 16};
    case WeightType::kQ5_1: return {5, 1, 0, 64, 16, kMins};
    case WeightType::kQ8_0: return {8, 1, 0, 32, kToUnsigned, kNoMins, kNoHalves, kSigned};
    case WeightType::kQ2_K: return {2, 8, 64, 64, 0, kMins, kHalves};
    case WeightType::kQ3_K: return {3, 8, 32, 32, 4, kNoMins, kHalves};
    case WeightType::kQ4_K: return {4, 8, 64, 32, 0, kMins};
    case WeightType::kQ5_K: return {5, 8, 64, 32, 16, kMins};
    case WeightType::kQ6_K: return {6, 8, 32, 32, 32, kNoMins, kHalves};
    case WeightType::kIQ4_NL:
      return {4, 1, 0, 32, kToUnsigned, kNoMins, kNoHalves, kSigned, Codes::kIq4};
    case WeightType::kIQ4_XS:
      return {4, 8, 32, 16, kToUnsigned, kNoMins, kNoHalves, kSigned, Codes::kIq4};
    case WeightType::kMXFP4: return {4, 1, 0, 32, 12, kNoMins, kNoHalves, !kSigned, Codes::kFp4};
    case WeightType::kF16:
    case WeightType::kBF16: break;
    case WeightType::kF32: return {32, 1, 0, 0, 0};
  }
  return {16, 1, 0, 0, 0};
}

constexpr bool is_float(WeightType type) {
  return type == WeightType::kF16 || type == WeightType::kBF16 || type == WeightType::kF32;
}

// Bytes of a packed matrix.
constexpr size_t packed_bytes(WeightType type, int64_t rows, int64_t columns) {
  const Format format = format_of(type);
  const int64_t panels = (rows + kPanelRows - 1) / kPanelRows;
  return static_cast<size_t>(panels * (columns / format.unit_columns()) * format.unit_bytes());
}

constexpr size_t panel_bytes(WeightType type, int64_t columns) {
  return packed_bytes(type, kPanelRows, columns);
}

}  // namespace aurora::kernels
