#include "metrics/parse.h"

#include <charconv>
#include <cstddef>
#include <optional>

namespace aurora {
namespace {

// End of `name` or `name{labels}`; a brace or a blank inside a quoted label value does not end it.
std::optional<size_t> end_of_key(std::string_view line) {
  bool in_braces = false;
  bool in_quotes = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (in_quotes) {
      if (c == '\\') ++i;
      if (c == '"') in_quotes = false;
    } else if (c == '"' && in_braces) {
      in_quotes = true;
    } else if (c == '{') {
      in_braces = true;
    } else if (c == '}' && in_braces) {
      return i + 1;
    } else if (!in_braces && (c == ' ' || c == '\t')) {
      return i;
    }
  }
  return std::nullopt;
}

std::string_view trim_front(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? std::string_view{} : text.substr(first);
}

std::optional<double> read_number(std::string_view text) {
  text = trim_front(text);
  text = text.substr(0, text.find_first_of(" \t\r"));
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::map<std::string, double> parse_metrics(std::string_view text) {
  std::map<std::string, double> samples;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const std::string_view line = trim_front(text.substr(0, newline));
    text = newline == std::string_view::npos ? std::string_view{} : text.substr(newline + 1);
    if (line.empty() || line.front() == '#') continue;
    const std::optional<size_t> end = end_of_key(line);
    if (!end || *end == 0) continue;
    const std::optional<double> value = read_number(line.substr(*end));
    if (value) samples[std::string(line.substr(0, *end))] = *value;
  }
  return samples;
}

std::string comment_line(std::string_view name, std::string_view words) {
  if (words.empty()) return "";
  std::string line = "# " + std::string(name) + " ";
  for (const char c : words) line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  return line + "\n";
}

std::string comment_of(std::string_view text, std::string_view name) {
  const std::string begin = "# " + std::string(name) + " ";
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with(begin)) return std::string(line.substr(begin.size()));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  return "";
}

}  // namespace aurora
