// Values of JSON where a few lines are written and none is read; not for hot paths.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>

namespace aurora {

// With its quotes. Control characters become blanks.
inline std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + "\"";
}

// null where it is not finite.
inline std::string json_number(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", value);
  return text;
}

}  // namespace aurora
