#include "cli/server_flags.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

namespace aurora {
namespace {

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end > 0) words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

bool names(std::string_view pattern, std::string_view name) {
  if (!pattern.ends_with('*')) return pattern == name;
  return name.starts_with(pattern.substr(0, pattern.size() - 1));
}

// The first entry that names it: a flag of its own stands before the pattern that has it too.
const ServerFlags* find(std::string_view name, std::string_view ServerFlags::*list) {
  for (const ServerFlags& entry : server_flags())
    for (const std::string_view pattern : words_of(entry.*list))
      if (names(pattern, name)) return &entry;
  return nullptr;
}

Status refused(std::string_view name, std::string_view why) {
  return Status::invalid(std::string(name) + " does not go with aurora serve: " + std::string(why));
}

bool is_off(std::string_view value) {
  constexpr std::array<std::string_view, 6> kOff = {"", "0", "off", "false", "disabled", "none"};
  return std::find(kOff.begin(), kOff.end(), value) != kOff.end();
}

// --flag of --flag=value; llama-server takes --cache_reuse too.
std::optional<std::string> flag_of(const std::string& arg) {
  if (!arg.starts_with('-')) return std::nullopt;
  std::string flag = arg.substr(0, arg.find('='));
  if (flag.starts_with("--")) std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

// Variables that are set and not to "off" or 0.
std::vector<std::string_view> variables_set() {
  std::vector<std::string_view> set;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string_view::npos && !is_off(text.substr(equals + 1)))
      set.push_back(text.substr(0, equals));
  }
  return set;
}

// `a`, `b`
std::string quoted(std::string_view words) {
  std::string text;
  for (const std::string_view word : words_of(words))
    text += (text.empty() ? "`" : ", `") + std::string(word) + "`";
  return text;
}

}  // namespace

const ServerFlags* find_server_flag(std::string_view flag) {
  return find(flag, &ServerFlags::flags);
}

const ServerFlags* find_server_variable(std::string_view variable) {
  return find(variable, &ServerFlags::variables);
}

Status check_server_flag(const std::string& arg) {
  const auto flag = flag_of(arg);
  const ServerFlags* entry = flag ? find_server_flag(*flag) : nullptr;
  const bool no = entry != nullptr && entry->use == FlagUse::kRefused;
  return no ? refused(*flag, entry->why) : Status::ok();
}

Status check_server_variables() {
  for (const std::string_view name : variables_set()) {
    const ServerFlags* entry = find_server_variable(name);
    if (entry != nullptr && entry->use == FlagUse::kRefused) return refused(name, entry->why);
  }
  return Status::ok();
}

std::vector<std::string> idle_server_flags(const std::vector<std::string>& args) {
  std::vector<std::string> sentences;
  const auto add = [&](std::string_view name, const ServerFlags* entry) {
    if (entry != nullptr && entry->use == FlagUse::kIdle)
      sentences.push_back(std::string(name) + " changes nothing: " + std::string(entry->why));
  };
  for (const std::string& arg : args)
    if (const auto flag = flag_of(arg)) add(*flag, find_server_flag(*flag));
  for (const std::string_view name : variables_set())
    if (name.starts_with("LLAMA_"))
      add(name, find_server_variable(name));  // HF_TOKEN is for others
  return sentences;
}

bool prints_and_exits(const std::vector<std::string>& args) {
  return std::any_of(args.begin(), args.end(), [](const std::string& arg) {
    const ServerFlags* entry = find_server_flag(arg);
    return entry != nullptr && entry->use == FlagUse::kPrints;
  });
}

std::string refused_flags_help() {
  std::string text;
  for (const ServerFlags& entry : server_flags()) {
    if (entry.use != FlagUse::kRefused) continue;
    text += "  " + std::string(entry.flags);
    if (!entry.variables.empty()) text += " (" + std::string(entry.variables) + ")";
    text += "\n      " + std::string(entry.why) + "\n";
  }
  return text;
}

std::string server_flags_page() {
  std::string text =
      "# llama-server's flags under `aurora serve`\n\n"
      "Made from `src/cli/server_flag_list.cc` by `aurora-flags-page`; tests hold the list against "
      "`llama-server --help` of the pinned\nsource. A variable does what its flag does. "
      "`aurora serve --help` has the flags that are ours.\n";
  constexpr std::array<std::pair<FlagUse, const char*>, 4> kParts = {{
      {FlagUse::kWorks, "These do what llama-server's --help says"},
      {FlagUse::kPrints, "These print and exit"},
      {FlagUse::kIdle, "These change nothing, and a line in the log says so"},
      {FlagUse::kRefused, "These are refused before the model is loaded, with the sentence"},
  }};
  for (const auto& [use, title] : kParts) {
    text += "\n## " + std::string(title) + "\n| flags | variables | |\n|---|---|---|\n";
    for (const ServerFlags& entry : server_flags())
      if (entry.use == use)
        text += "| " + quoted(entry.flags) + " | " + quoted(entry.variables) + " | " +
                std::string(entry.why) + " |\n";
  }
  return text;
}

}  // namespace aurora
