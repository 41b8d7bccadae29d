#include "kernels/pack.h"

#include <cstring>

namespace aurora::kernels {
namespace {

// One unit of one row, taken apart. Quants are unsigned, but for Q8_0 (signed bytes).
struct RowUnit {
  // fp16 bits (MXFP4: bf16): scale and min of the block, or of the unit for the K types
  uint16_t d = 0, m = 0;
  uint8_t scales[16] = {};  // K types, of each block or of each half of one
  uint8_t mins[16] = {};
  uint8_t quants[256] = {};
};

uint16_t load16(const uint8_t* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// Files keep 32 quants in 16 bytes: column i in the low half of byte i, column i + 16 in the high
// half.
void split_nibbles(const uint8_t* packed, int half, uint8_t* quants) {
  for (int i = 0; i < half; ++i) {
    quants[i] = packed[i] & 15;
    quants[i + half] = packed[i] >> 4;
  }
}

// Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL: fp16 d, fp16 m where there are mins, four bytes of fifth bits, 16
// bytes of nibbles.
void read_small(const Format& format, const uint8_t* at, RowUnit& out) {
  out.d = load16(at);
  at += 2;
  if (format.mins) {
    out.m = load16(at);
    at += 2;
  }
  uint32_t fifth = 0;
  if (format.bits == 5) {
    std::memcpy(&fifth, at, sizeof fifth);
    at += 4;
  }
  split_nibbles(at, kBlock / 2, out.quants);
  for (int i = 0; i < kBlock; ++i) out.quants[i] |= static_cast<uint8_t>(((fifth >> i) & 1) << 4);
}

// Q4_K, Q5_K: fp16 d, fp16 dmin, 12 bytes of eight 6-bit scales and mins, Q5_K: 32 bytes of fifth
// bits, 128 of nibbles.
void read_k45(const Format& format, const uint8_t* at, RowUnit& out) {
  out.d = load16(at);
  out.m = load16(at + 2);
  const uint8_t* s = at + 4;
  for (int j = 0; j < 4; ++j) {
    out.scales[j] = s[j] & 63;
    out.mins[j] = s[j + 4] & 63;
    out.scales[j + 4] = static_cast<uint8_t>((s[j + 8] & 15) | ((s[j] >> 6) << 4));
    out.mins[j + 4] = static_cast<uint8_t>((s[j + 8] >> 4) | ((s[j + 4] >> 6) << 4));
  }
  const uint8_t* fifth = format.bits == 5 ? at + 16 : nullptr;
  const uint8_t* nibbles = at + (fifth ? 48 : 16);
  for (int pair = 0; pair < 4; ++pair)
    split_nibbles(nibbles + 32 * pair, 32, out.quants + 64 * pair);
  for (int i = 0; fifth && i < 256; ++i) {
    out.quants[i] |= static_cast<uint8_t>(((fifth[i % 32] >> (i / 32)) & 1) << 4);
  }
}

// Two bits of each quant as Q2_K and Q3_K keep them: 32 bytes hold 128 columns, 32 at a time in
// bits 0 and 1, 2 and 3, ...
void read_two_bits(const uint8_t* at, uint8_t* quants) {
  for (int i = 0; i < 256; ++i) {
    quants[i] = static_cast<uint8_t>((at[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32))) & 3);
  }
}

// Q2_K: 16 bytes of scale (low half) and min, 64 of quants, fp16 d, fp16 dmin.
void read_q2k(const uint8_t* at, RowUnit& out) {
  for (int i = 0; i < 16; ++i) {
    out.scales[i] = at[i] & 15;
    out.mins[i] = at[i] >> 4;
  }
  read_two_bits(at + 16, out.quants);
  out.d = load16(at + 80);
  out.m = load16(at + 82);
}

// Q3_K: 32 bytes of third bits, 64 of quants, 12 of sixteen 6-bit scales plus 32, fp16 d.
void read_q3k(const uint8_t* at, RowUnit& out) {
  read_two_bits(at + 32, out.quants);
  for (int i = 0; i < 256; ++i)
    out.quants[i] |= static_cast<uint8_t>(((at[i % 32] >> (i / 32)) & 1) << 2);
  const uint8_t* s = at + 96;
  for (int i = 0; i < 16; ++i) {
    const int low = (s[i % 8] >> (4 * (i / 8))) & 15;
    const int high = (s[8 + i % 4] >> (2 * (i / 4))) & 3;
    out.scales[i] = static_cast<uint8_t>((low | (high << 4)) - 32);
  }
  out.d = load16(at + 108);
}

// IQ4_XS: fp16 d, 16 bits with the upper two of each scale plus 32, four bytes with the lower four,
// 128 bytes of nibbles.
void read_iq4xs(const uint8_t* at, RowUnit& out) {
  out.d = load16(at);
  const int upper = load16(at + 2);
  for (int block = 0; block < 8; ++block) {
    const int low = (at[4 + block / 2] >> (4 * (block % 2))) & 15;
    const int high = (upper >> (2 * block)) & 3;
    out.scales[block] = static_cast<uint8_t>((low | (high << 4)) - 32);
    split_nibbles(at + 8 + 16 * block, kBlock / 2, out.quants + kBlock * block);
  }
}

// MXFP4: an exponent, 16 bytes of nibbles. The scale is 2^(e - 128), because its values are
// doubled.
void read_mxfp4(const uint8_t* at, RowUnit& out) {
  out.d = static_cast<uint16_t>(at[0] < 2 ? 0x20 << at[0] : (at[0] - 1) << 7);
  split_nibbles(at + 1, kBlock / 2, out.quants);
}

// Q6_K: 128 bytes of nibbles, 64 of upper two bits, 16 signed scales, fp16 d.
void read_q6k(const uint8_t* at, RowUnit& out) {
  const uint8_t* upper = at + 128;
  for (int half = 0; half < 2; ++half) {
    uint8_t* quants = out.quants + 128 * half;
    for (int pair = 0; pair < 2;
         ++pair) {  // 32 bytes: columns 32 pair + i low, 32 pair + 64 + i high
      for (int i = 0; i < 32; ++i) {
        const uint8_t byte = at[64 * half + 32 * pair + i];
        quants[32 * pair + i] = byte & 15;
        quants[32 * pair + 64 + i] = byte >> 4;
      }
    }
    for (int i = 0; i < 128; ++i) {
      quants[i] |= static_cast<uint8_t>(((upper[32 * half + i % 32] >> (2 * (i / 32))) & 3) << 4);
    }
  }
  std::memcpy(out.scales, at + 192, 16);
  out.d = load16(at + 208);
}

void read_unit(WeightType type, const uint8_t* at, RowUnit& out) {
  switch (type) {
    case WeightType::kQ8_0:
      out.d = load16(at);
      std::memcpy(out.quants, at + 2, kBlock);
      return;
    case WeightType::kQ2_K: read_q2k(at, out); return;
    case WeightType::kQ3_K: read_q3k(at, out); return;
    case WeightType::kIQ4_XS: read_iq4xs(at, out); return;
    case WeightType::kMXFP4: read_mxfp4(at, out); return;
    case WeightType::kQ4_K:
    case WeightType::kQ5_K: read_k45(format_of(type), at, out); return;
    case WeightType::kQ6_K: read_q6k(at, out); return;
    default: read_small(format_of(type), at, out); return;
  }
}

void write_quants(int bits, const uint8_t* quants, int row, uint8_t* lines) {
  for (int column = 0; column < kBlock; ++column) {
    const int step = column / 4;
    const int byte = 4 * row + column % 4;
    const uint8_t q = quants[column];
    if (bits == 8) {
      lines[64 * step + byte] = q;
      continue;
    }
    if (bits < 4) {
      lines[64 * (step / 4) + byte] |= static_cast<uint8_t>((q & 3) << (2 * (step % 4)));
      if (bits == 3) lines[128 + byte] |= static_cast<uint8_t>((q >> 2) << step);
      continue;
    }
    lines[64 * (step / 2) + byte] |= static_cast<uint8_t>((q & 15) << (4 * (step % 2)));
    if (bits == 5) lines[256 + byte] |= static_cast<uint8_t>((q >> 4) << step);
    if (bits == 6) {
      lines[256 + 64 * (step / 4) + byte] |= static_cast<uint8_t>((q >> 4) << (2 * (step % 4)));
    }
  }
}

void write_unit(WeightType type, const RowUnit& in, int row, uint8_t* unit) {
  const Format format = format_of(type);
  const bool k_type = format.header_bytes > 0;
  uint8_t* fp16 =
      unit;  // the K types' header, the others' block scales: d of all rows, then m of all rows
  std::memcpy(fp16 + 2 * row, &in.d, 2);
  if (format.mins) std::memcpy(fp16 + 32 + 2 * row, &in.m, 2);
  for (int block = 0; block < format.blocks; ++block) {
    uint8_t* at = unit + format.header_bytes + block * format.block_bytes();
    if (format.halves) {
      for (int half = 0; half < 2; ++half) {
        at[16 * half + row] = in.scales[2 * block + half];
        if (format.mins) at[32 + 16 * half + row] = in.mins[2 * block + half];
      }
    } else if (k_type) {
      at[row] = in.scales[block];
      if (format.mins) at[16 + row] = in.mins[block];
    }
    write_quants(format.bits, in.quants + kBlock * block, row, at + format.scale_bytes);
  }
}

int unit_file_bytes(WeightType type) {
  switch (type) {
    case WeightType::kQ4_0: return 18;
    case WeightType::kQ4_1: return 20;
    case WeightType::kQ5_0: return 22;
    case WeightType::kQ5_1: return 24;
    case WeightType::kQ8_0: return 34;
    case WeightType::kQ2_K: return 84;
    case WeightType::kQ3_K: return 110;
    case WeightType::kIQ4_NL: return 18;
    case WeightType::kIQ4_XS: return 136;
    case WeightType::kMXFP4: return 17;
    case WeightType::kQ4_K: return 144;
    case WeightType::kQ5_K: return 176;
    case WeightType::kQ6_K: return 210;
    case WeightType::kF16:
    case WeightType::kBF16:
    case WeightType::kF32: break;
  }
  return format_of(type).bits / 8 * kBlock;
}

void pack_row(WeightType type, const uint8_t* file_row, int64_t columns, int row, uint8_t* panel) {
  if (is_float(type)) {
    const int bytes = format_of(type).bits / 8;
    for (int64_t k = 0; k < columns; ++k) {
      std::memcpy(panel + bytes * (kPanelRows * k + row), file_row + bytes * k,
                  static_cast<size_t>(bytes));
    }
    return;
  }
  const Format format = format_of(type);
  const int64_t units = columns / format.unit_columns();
  for (int64_t u = 0; u < units; ++u) {
    RowUnit unit;
    read_unit(type, file_row + u * unit_file_bytes(type), unit);
    write_unit(type, unit, row, panel + u * format.unit_bytes());
  }
}

}  // namespace

int64_t file_row_bytes(WeightType type, int64_t columns) {
  return columns / format_of(type).unit_columns() * unit_file_bytes(type);
}

void pack_panels(WeightType type, const uint8_t* file, int64_t rows, int64_t columns, int64_t first,
                 int64_t last, uint8_t* packed) {
  const int64_t row_bytes = file_row_bytes(type, columns);
  const size_t bytes = panel_bytes(type, columns);
  for (int64_t p = first; p < last; ++p) {
    uint8_t* panel = packed + static_cast<size_t>(p) * bytes;
    std::memset(panel, 0, bytes);
    for (int row = 0; row < kPanelRows && p * kPanelRows + row < rows; ++row) {
      pack_row(type, file + (p * kPanelRows + row) * row_bytes, columns, row, panel);
    }
  }
}

}  // namespace aurora::kernels
