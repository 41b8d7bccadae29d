#include "lab/learn_variants.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <sstream>

namespace aurora {

Result<std::vector<LearnVariant>> parse_learn_variants(const std::string& text) {
  std::vector<LearnVariant> variants;
  std::set<std::string> names;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line);
    std::string word;
    if (!(words >> word) || word[0] == '#') continue;
    const std::string where = "line " + std::to_string(number);
    if (word.size() < 2 || word.back() != ':')
      return Status::invalid(where + " must begin with a name and a colon, like \"base:\"");
    word.pop_back();
    const bool plain = std::all_of(word.begin(), word.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
    });
    if (!plain || word[0] == '.')
      return Status::invalid(where + ": the name \"" + word +
                             "\" may hold letters, digits, '.', '_' and '-', and names a file");
    if (!names.insert(word).second)
      return Status::invalid(where + ": there are two variants called " + word);
    LearnVariant variant{word, {}};
    while (words >> word) variant.flags.push_back(word);
    variants.push_back(std::move(variant));
  }
  if (variants.empty())
    return Status::invalid(
        "no variant given; write one a line, like \"base:\" or \"k5: "
        "--train-steps 5\"");
  return variants;
}

}  // namespace aurora
