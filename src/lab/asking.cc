#include "lab/asking.h"

#include <algorithm>
#include <thread>

#include "base/check.h"
#include "base/clock.h"

namespace aurora {
namespace {

ChatRequest request_of(const Prompt& prompt, const AskOptions& options) {
  return {.messages = prompt.messages,
          .domain = {},
          .tokens_max = options.tokens_max,
          .temperature = options.temperature,
          .seed = options.seed,
          .speculate = options.speculate,
          .cache_prompt = options.cache_prompt,
          .stream = true};
}

}  // namespace

bool Turn::whole() const {
  return std::all_of(answers.begin(), answers.end(), [](const auto& one) { return one.is_ok(); });
}

Rate Turn::rate() const {
  Rate rate;
  for (const auto& answer : answers) {
    if (!answer) continue;
    rate.tokens += answer.value().tokens;
    rate.seconds += answer.value().decode_ms / 1000;
  }
  if (answers.size() > 1) rate.seconds = wall_s;
  return rate;
}

Turn ask(std::span<const Prompt> prompts, const AskOptions& options) {
  Turn turn;
  turn.answers.assign(prompts.size(), Status::internal("not asked"));
  const int64_t begin_us = steady_us();
  std::vector<std::thread> others;
  const auto one = [&](size_t i) {
    turn.answers[i] = ServerClient(options.url).chat(request_of(prompts[i], options));
  };
  for (size_t i = 1; i < prompts.size(); ++i) others.emplace_back(one, i);
  if (!prompts.empty()) one(0);
  for (std::thread& other : others) other.join();
  turn.wall_s = static_cast<double>(steady_us() - begin_us) / 1e6;
  return turn;
}

size_t same_texts(const Turn& a, const Turn& b) {
  CHECK(a.answers.size() == b.answers.size());
  size_t same = 0;
  for (size_t i = 0; i < a.answers.size(); ++i)
    same += a.answers[i] && b.answers[i] && a.answers[i].value().text == b.answers[i].value().text;
  return same;
}

}  // namespace aurora
