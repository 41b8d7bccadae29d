// Which message of which record a broker's answer is about: "INBOX.FLIGHT.MESSAGE".
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

namespace aurora {

struct AnswerTo {
  uint64_t flight = 0;
  size_t message = 0;
};

// Nothing for any other subject: everybody may send to an inbox, and to the bare one.
inline std::optional<AnswerTo> answer_to(std::string_view subject, std::string_view inbox) {
  if (subject.size() <= inbox.size() || !subject.starts_with(inbox) || subject[inbox.size()] != '.')
    return std::nullopt;
  const char* begin = subject.data() + inbox.size() + 1;
  const char* end = subject.data() + subject.size();
  AnswerTo answer;
  const auto flight = std::from_chars(begin, end, answer.flight);
  if (flight.ec != std::errc() || flight.ptr == end || *flight.ptr != '.') return std::nullopt;
  const auto message = std::from_chars(flight.ptr + 1, end, answer.message);
  if (message.ec != std::errc() || message.ptr != end) return std::nullopt;
  return answer;
}

}  // namespace aurora
