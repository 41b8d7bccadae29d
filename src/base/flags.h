// The flags of a command in one table, each bound to where its value goes: the table parses,
// refuses with one sentence and prints the help; man page and completion are made from it
// (cli/pages.cc). A default is what the place holds when the table is made, so it is written once,
// in the options.
#pragma once

#include <concepts>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/parse_number.h"
#include "base/status.h"

namespace aurora {

struct Flag {
  std::string names;      // "-m, --model"
  std::string value;      // "FILE", "on|off", "N"; "[SECONDS]": may be left out; "": a switch
  std::string what;       // half a sentence
  std::string takes;      // "a whole number from 1 to 16": for the sentence that refuses another
  std::string range;      // "1 to 16"; "": none, or one that nobody reaches
  std::string otherwise;  // the default; "": none
  std::function<bool(const std::string&)> set;  // false: not such a value. "" where none was given
};

struct CommandLine {
  std::string name;   // "aurora replay"
  std::string usage;  // what follows it: "FILE.jsonl... [flags]"
  std::string about;  // sentences
  std::vector<Flag> flags;
  std::vector<std::string>* words = nullptr;   // arguments that are no flags; nullptr: none
  std::vector<std::string>* others = nullptr;  // all that no flag here takes, for another program
  std::string notes = {};                      // behind the flags in the help
};

// --flag value, --flag=value or -f value, the last one counts. A flag is nobody's value, a negative
// number may be. invalid: one sentence that names the flag.
Status parse_flags(const CommandLine& line, const std::vector<std::string>& args);
std::string help_of(const CommandLine& line);
// Prints it; 0, for exit().
int print_help(const CommandLine& line);
// With the defaults, whatever has been given.
template <typename Options>
int print_help(CommandLine (*table)(Options&)) {
  Options defaults;
  return print_help(table(defaults));
}
// Prints "NAME: why"; 2, for exit().
int refuse(const std::string& name, const Status& why);

std::vector<std::string> names_of(const Flag& flag);
// The values of a flag that takes one of some words: "on|off". Empty: it takes others.
std::vector<std::string> words_of(const Flag& flag);
// The same flags, that also append what they were given to `words`, for another program.
std::vector<Flag> handed_on(std::vector<Flag> flags, std::vector<std::string>& words);

std::string shown_number(double value);
std::string range_of(double least, double most);
std::string takes_number(bool whole, double least, double most);
std::string takes_words(const std::vector<std::string>& words);

Flag switch_flag(std::string names, std::string what, bool& at);
Flag help_flag(bool& at);
// Any text but an empty one.
Flag text_flag(std::string names, std::string value, std::string what, std::string& at);

template <typename T>
Flag number_flag(std::string names, std::string what, T& at, std::type_identity_t<T> least,
                 std::type_identity_t<T> most, std::string value = "N") {
  const auto low = static_cast<double>(least), high = static_cast<double>(most);
  return {std::move(names),
          std::move(value),
          std::move(what),
          takes_number(std::integral<T>, low, high),
          range_of(low, high),
          shown_number(static_cast<double>(at)),
          [&at, least, most](const std::string& v) { return parse_number(v, least, most, at); }};
}

// One of some words, each of which stands for a value.
template <typename T>
Flag choice_flag(std::string names, std::string what, T& at,
                 std::vector<std::pair<std::string, std::type_identity_t<T>>> choices) {
  std::vector<std::string> words;
  std::string value, otherwise;
  for (const auto& [word, of_word] : choices) {
    words.push_back(word);
    value += (value.empty() ? "" : "|") + word;
    if (at == of_word) otherwise = word;
  }
  return {std::move(names),
          value,
          std::move(what),
          takes_words(words),
          "",
          otherwise,
          [&at, choices = std::move(choices)](const std::string& v) {
            for (const auto& [word, of_word] : choices) {
              if (v != word) continue;
              at = of_word;
              return true;
            }
            return false;
          }};
}

// A number, or a word that stands for one outside its range.
template <typename T>
Flag word_or_number_flag(std::string names, std::string word, std::type_identity_t<T> of_word,
                         std::string what, T& at, std::type_identity_t<T> least,
                         std::type_identity_t<T> most) {
  Flag flag = number_flag(std::move(names), std::move(what), at, least, most, word + "|N");
  flag.takes = word + " or " + flag.takes;
  if (at == of_word) flag.otherwise = word;
  flag.set = [&at, word, of_word, number = std::move(flag.set)](const std::string& v) {
    if (v != word) return number(v);
    at = of_word;
    return true;
  };
  return flag;
}

}  // namespace aurora
