// The inner loops of attention.cc, one table for each instruction set, equal bit for bit. Compile
// the .cc files with -ffp-contract=off. Eight lanes x0 ... x7 are added as ((x0 + x1) + (x2 + x3))
// + ((x4 + x5) + (x6 + x7)).
#pragma once

#include <cstddef>
#include <cstdint>

namespace aurora::attention {

inline constexpr int kLanes = 8;

// A partial result of one row: this head, then value_dim floats (the sum of p v, not yet divided).
struct Partial {
  float max;
  float sum;
  int32_t first;  // block it begins with
  int32_t level;  // covers 2^level blocks
  float unused[4];

  float* values() { return reinterpret_cast<float*>(this + 1); }
  const float* values() const { return reinterpret_cast<const float*>(this + 1); }
};
static_assert(sizeof(Partial) == kLanes * sizeof(float));

struct ScoreArgs {
  const float* queries;     // [rows][dim], already scaled
  const void* const* keys;  // row pointers; `count` rounded up to 8 of them may be read
  int rows;
  int count;
  int dim;
  bool half;      // keys are fp16
  float* scores;  // [rows][score_stride]; written up to `count` rounded up to 8
  int score_stride;
};

// values[i] += sum over keys [first, last) of weights[i][key] * rows[key], for 1 to 3 rows i.
struct ValueArgs {
  const float* weights[3];
  float* values[3];
  const void* const* rows;
  int first;
  int last;
  int dim;
  bool half;
};

struct AttentionKernels {
  const char* name;
  void (*scores)(const ScoreArgs& args);
  // score = softcap * tanh(score), `count` of them, a multiple of 8.
  void (*soften)(float* scores, int count, float softcap);
  // One row's scores become 2^(score - max), partial gets max and sum. Rounds `count` up to 8 with
  // zeros.
  void (*weigh)(float* scores, int count, Partial& partial);
  void (*add_values)(int rows, const ValueArgs& args);
  void (*merge)(Partial& into, const Partial& later, int dim);
  void (*scale)(const float* in, float factor, float* out, int dim);
  // fp16 rows to fp32, [count][dim] at `out`; the pointers then point there.
  void (*widen)(const void** rows, int count, int dim, float* out);
};

// 2^x for x <= 0: x = n + f with |f| <= 1/2, a polynomial for 2^f that interpolates at the
// Chebyshev points (relative error 1e-8), the exponent's bits for 2^n. Exactly 1 at 0, exactly 0
// below -125.
inline constexpr float kExpLowest = -125.0f;
inline constexpr float kExpRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
inline constexpr float kExp1 = 0x1.62e430p-1f;
inline constexpr float kExp2 = 0x1.ebfbe0p-3f;
inline constexpr float kExp3 = 0x1.c6af6cp-5f;
inline constexpr float kExp4 = 0x1.3b2a54p-7f;
inline constexpr float kExp5 = 0x1.5f0890p-10f;
inline constexpr float kExp6 = 0x1.44138ap-13f;

inline constexpr float kLog2E = 1.44269504f;

}  // namespace aurora::attention
