// Whether a trainer can learn from a record: asked once, at intake, so that one that cannot never
// spoils a step for the others in it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "draft/draft_weights.h"
#include "trace/record.h"

namespace aurora {

enum class Unusable : uint8_t {
  kNone,
  kForeign,   // of another target model
  kShape,     // another hidden size or other tap layers
  kShort,     // one served token gives no column
  kToken,     // a token that the target does not have
  kNotFinite  // a tap that is inf or NaN
};
inline constexpr size_t kUnusableCount = 6;
const char* unusable_name(Unusable cause);

// Records of each cause.
using UnusableCounts = std::array<uint64_t, kUnusableCount>;

// Cost: one pass over the taps.
Unusable check_record(const TraceRecord& record, const std::string& target,
                      const DraftShape& shape);

// For a trainer that does not learn from what was refused.
void drop_branches(TraceRecord& record);

}  // namespace aurora
