// A number given to a flag, or the sentence that says what the flag takes.
#pragma once

#include <concepts>
#include <string>
#include <type_traits>

#include "base/parse_number.h"
#include "base/status.h"
#include "cli/text.h"

namespace aurora {

template <typename T>
std::string shown_number(T value) {
  if constexpr (std::floating_point<T>) return printed("%g", value);
  else return std::to_string(value);
}

// invalid, and `out` as it was, where `text` is not a number from least to most.
template <typename T>
Status need_number(const std::string& flag, const std::string& text, std::type_identity_t<T> least,
                   std::type_identity_t<T> most, T& out) {
  if (parse_number(text, least, most, out)) return Status::ok();
  return Status::invalid(flag + " is '" + text + "'; give a " +
                         (std::floating_point<T> ? "number" : "whole number") + " from " +
                         shown_number(least) + " to " + shown_number(most));
}

}  // namespace aurora
