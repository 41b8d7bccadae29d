// Numbers of flags: the whole text, within bounds.
#pragma once

#include <charconv>
#include <string_view>
#include <system_error>

namespace aurora {

// False, and `out` as it was, where the text is not a number from least to most.
template <typename T>
bool parse_number(std::string_view text, T least, T most, T& out) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  if (!(value >= least && value <= most)) return false;  // not a number fails both
  out = value;
  return true;
}

}  // namespace aurora
