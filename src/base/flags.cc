#include "base/flags.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <sstream>
#include <string_view>

namespace aurora {
namespace {

constexpr size_t kColumns = 100, kLeft = 26;
constexpr double kNobodyReaches = 1e6;

std::vector<std::string> split(const std::string& text, std::string_view by) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(by, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + by.size();
  }
  return parts;
}

// -1 is a value, --port is none.
bool is_value(const std::string& text) {
  return text.size() < 2 || text[0] != '-' ||
         std::string_view("0123456789.").find(text[1]) != std::string_view::npos;
}

const Flag* find_flag(const CommandLine& line, const std::string& name) {
  for (const Flag& flag : line.flags)
    for (const std::string& known : names_of(flag))
      if (name == known) return &flag;
  return nullptr;
}

Status set_flag(const Flag& flag, const std::string& name, const std::string& value) {
  if (flag.set(value)) return Status::ok();
  return Status::invalid(name + " is '" + value + "'; give " + flag.takes);
}

// `text` in lines that fit behind `indent` columns; the first begins at `column`.
std::string wrapped(const std::string& text, size_t column, size_t indent) {
  std::istringstream words(text);
  std::string out, word;
  for (bool first = true; words >> word; first = false) {
    if (!first && column + 1 + word.size() > kColumns) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (!first) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

std::string help_line(const Flag& flag) {
  std::string left = "  " + flag.names + (flag.value.empty() ? "" : " " + flag.value);
  std::string right = flag.what;
  if (!flag.range.empty()) right += " (" + flag.range + ")";
  if (!flag.otherwise.empty()) right += " [" + flag.otherwise + "]";
  left += left.size() + 2 > kLeft ? "\n" + std::string(kLeft, ' ')
                                  : std::string(kLeft - left.size(), ' ');
  return left + wrapped(right, kLeft, kLeft) + "\n";
}

}  // namespace

std::vector<std::string> names_of(const Flag& flag) { return split(flag.names, ", "); }

std::vector<std::string> words_of(const Flag& flag) {
  if (flag.value.find('|') == std::string::npos) return {};
  std::vector<std::string> words = split(flag.value, "|");
  // FILE and N stand for what is no word.
  std::erase_if(words, [](const std::string& word) { return word[0] >= 'A' && word[0] <= 'Z'; });
  return words;
}

std::vector<Flag> handed_on(std::vector<Flag> flags, std::vector<std::string>& words) {
  for (Flag& flag : flags) {
    flag.set = [&words, name = names_of(flag).back(), takes_none = flag.value.empty(),
                set = std::move(flag.set)](const std::string& value) {
      if (!set(value)) return false;
      words.push_back(name);
      if (!takes_none) words.push_back(value);
      return true;
    };
  }
  return flags;
}

std::string shown_number(double value) {
  char text[32];
  const bool whole = value == std::floor(value) && std::fabs(value) < 1e15;
  std::snprintf(text, sizeof text, whole ? "%.0f" : "%g", value);
  return text;
}

std::string range_of(double least, double most) {
  if (most < kNobodyReaches) return shown_number(least) + " to " + shown_number(most);
  return least > 0 ? shown_number(least) + " or more" : "";
}

std::string takes_number(bool whole, double least, double most) {
  return std::string(whole ? "a whole number" : "a number") + " from " + shown_number(least) +
         " to " + shown_number(most);
}

std::string takes_words(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  return text;
}

Flag switch_flag(std::string names, std::string what, bool& at) {
  return {std::move(names),
          "",
          std::move(what),
          "",
          "",
          "",
          [&at](const std::string&) { return at = true; }};
}

Flag help_flag(bool& at) { return switch_flag("-h, --help", "this text", at); }

Flag text_flag(std::string names, std::string value, std::string what, std::string& at) {
  std::string takes = value;
  return {std::move(names),
          std::move(value),
          std::move(what),
          takes,
          "",
          at,
          [&at](const std::string& v) { return !(at = v).empty(); }};
}

Status parse_flags(const CommandLine& line, const std::vector<std::string>& args) {
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    const bool joined = arg.starts_with('-') && arg.find('=') != std::string::npos;
    const std::string name = joined ? arg.substr(0, arg.find('=')) : arg;
    const Flag* flag = find_flag(line, name);
    if (flag == nullptr) {
      if (line.others != nullptr) line.others->push_back(arg);
      else if (is_value(arg) && line.words != nullptr) line.words->push_back(arg);
      else
        return Status::invalid("there is no " + std::string(is_value(arg) ? "" : "flag ") + "'" +
                               name + "' here; `" + line.name + " --help` lists what there is");
      continue;
    }
    std::string value;
    const bool may_be_left_out = flag->value.starts_with('[');
    if (flag->value.empty()) {
      if (joined) return Status::invalid(name + " takes no value");
    } else if (joined) {
      value = arg.substr(name.size() + 1);
    } else if (i + 1 < args.size() && is_value(args[i + 1]) &&
               (!may_be_left_out || (args[i + 1][0] >= '0' && args[i + 1][0] <= '9'))) {
      value = args[++i];
    } else if (!may_be_left_out) {
      return Status::invalid(name + " needs a value: " + flag->value);
    }
    if (Status status = set_flag(*flag, name, value); !status) return status;
  }
  return Status::ok();
}

std::string help_of(const CommandLine& line) {
  std::string text = "usage: " + line.name + " " + line.usage + "\n\n";
  if (!line.about.empty()) text += wrapped(line.about, 0, 0) + "\n\n";
  for (const Flag& flag : line.flags) text += help_line(flag);
  if (!line.notes.empty()) text += "\n" + line.notes;
  return text;
}

int print_help(const CommandLine& line) {
  std::fputs(help_of(line).c_str(), stdout);
  return 0;
}

int refuse(const std::string& name, const Status& why) {
  std::fprintf(stderr, "%s: %s\n", name.c_str(), why.message().c_str());
  return 2;
}

}  // namespace aurora
