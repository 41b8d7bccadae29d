#include "train/record_check.h"

#include <algorithm>

namespace aurora {
namespace {

// fp16: all bits of the exponent set is inf or NaN. No early end, so that the loop is vectorised.
bool all_finite(const std::vector<uint16_t>& taps) {
  constexpr uint16_t kExponent = 0x7C00;
  uint32_t bad = 0;
  for (const uint16_t tap : taps) bad += (tap & kExponent) == kExponent;
  return bad == 0;
}

bool all_tokens_in(const TraceRecord& record, int vocab) {
  const auto inside = [vocab](int32_t token) { return token >= 0 && token < vocab; };
  return std::all_of(record.tokens.begin(), record.tokens.end(), inside) &&
         std::all_of(record.refused.begin(), record.refused.end(),
                     [&](const RefusedRow& row) { return inside(row.token); });
}

}  // namespace

const char* unusable_name(Unusable cause) {
  switch (cause) {
    case Unusable::kNone: return "none";
    case Unusable::kForeign: return "foreign";
    case Unusable::kShape: return "shape";
    case Unusable::kShort: return "short";
    case Unusable::kToken: return "token";
    case Unusable::kNotFinite: return "not_finite";
  }
  return "none";
}

Unusable check_record(const TraceRecord& record, const std::string& target,
                      const DraftShape& shape) {
  if (record.target != target) return Unusable::kForeign;
  if (record.hidden != shape.hidden ||
      !std::equal(record.tap_layers, record.tap_layers + kTapCount, shape.tap_layers))
    return Unusable::kShape;
  if (record.served_tokens() < 2) return Unusable::kShort;
  if (!all_tokens_in(record, shape.target_vocab)) return Unusable::kToken;
  if (!all_finite(record.taps) || !all_finite(record.refused_taps)) return Unusable::kNotFinite;
  return Unusable::kNone;
}

void drop_branches(TraceRecord& record) {
  record.refused = {};
  record.refused_taps = {};
  record.refused_laws = {};
}

}  // namespace aurora
