// Traffic that nothing can be learnt from for long.
#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "lab/prompt_stream.h"
#include "replay/text.h"

namespace aurora {
namespace {

using nlohmann::json;

// First letter and number of letters of a script, in Unicode.
struct Script {
  uint32_t first, count;
};
constexpr Script kScripts[] = {{'a', 26},    {'0', 10},       {0x0391, 17},    {0x0430, 32},
                               {0x05D0, 27}, {0x0627, 28},    {0x0905, 50},    {0x0E01, 46},
                               {0x3042, 80}, {0x4E00, 20000}, {0xAC00, 11000}, {'!', 15}};

constexpr const char* kQuestions[] = {"Erzähle mir etwas über %s, Teil %d.",
                                      "Parle-moi de %s, partie %d.",
                                      "Háblame de %s, parte %d.",
                                      "Расскажи мне о %s, часть %d.",
                                      "告诉我关于 %s 的事情，第 %d 部分。",
                                      "%s について教えてください。その %d。",
                                      "%s에 대해 알려줘. %d부.",
                                      "حدثني عن %s، الجزء %d.",
                                      "मुझे %s के बारे में बताओ, भाग %d।",
                                      "Opowiedz mi o %s, część %d.",
                                      "Bana %s hakkında bilgi ver, bölüm %d.",
                                      "Kerro minulle aiheesta %s, osa %d."};
constexpr const char* kSubjects[] = {"rivers", "clocks", "bread", "maps",  "glass", "wool", "iron",
                                     "paper",  "salt",   "tea",   "ships", "bees",  "snow"};
constexpr size_t kWords = 24, kLettersMax = 6;

void append_utf8(std::string& text, uint32_t code) {
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | code >> 6);
    text += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    text += static_cast<char>(0xE0 | code >> 12);
    text += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (code & 0x3F));
  }
}

// The standard fixes the generator's sequence and not those of its distributions.
std::string random_text(std::mt19937_64& rng) {
  std::string text;
  for (size_t word = 0; word < kWords; ++word) {
    const Script& script = kScripts[rng() % std::size(kScripts)];
    for (size_t left = 1 + rng() % kLettersMax; left > 0; --left)
      append_utf8(text, script.first + static_cast<uint32_t>(rng() % script.count));
    text += ' ';
  }
  return text;
}

}  // namespace

std::vector<Prompt> hostile_prompts(size_t count, uint32_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < count; ++i) {
    std::string text = random_text(rng);
    if (i % 2 == 1) {
      std::string question = kQuestions[i / 2 % std::size(kQuestions)];
      question.replace(question.find("%s"), 2, kSubjects[rng() % std::size(kSubjects)]);
      question.replace(question.find("%d"), 2, std::to_string(i));
      text = question;
    }
    const json messages = json::array({{{"role", "user"}, {"content", text}}});
    prompts.push_back({"hostile/" + std::to_string(i), "hostile", messages.dump()});
  }
  return prompts;
}

}  // namespace aurora
