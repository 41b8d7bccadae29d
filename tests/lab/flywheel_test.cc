// What `aurora bench flywheel` asks, and the figures that it makes of the answers.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "lab/flywheel_figures.h"
#include "lab/flywheel_options.h"
#include "lab/prompt_stream.h"

namespace aurora {
namespace {

using nlohmann::json;

ArmFigures arm(const std::string& name, int slots, double per_s) {
  return {.name = name, .slots = slots, .speed = {per_s, 1}};
}

Compared pairs_at(double ratio, size_t count) {
  Compared pairs;
  for (size_t i = 0; i < count; ++i) pairs.add({100 * ratio, 1}, {100, 1});
  return pairs;
}

Flywheel some_run() {
  Flywheel run;
  run.arms = {arm("learning", 1, 60),
              arm("none", 1, 40),
              arm("stock", 1, 20),
              arm("stock-ngram-mod", 1, 30),
              arm("stock-ngram-cache", 1, 25),
              arm("learning", 4, 80),
              arm("none", 4, 64),
              arm("stock", 4, 32)};
  for (const auto& [ratio, count] : {std::pair(1.5, 9), {0.9, 3}, {1.2, 4}}) {
    LearnWindow window;
    window.pairs = pairs_at(ratio, static_cast<size_t>(count));
    run.windows.push_back(window);
  }
  run.windows.back().frozen = pairs_at(1.3, 5);
  run.failed = 1;
  run.swaps = 7;
  return run;
}

json parsed(const Result<std::string>& text) { return json::parse(text.value()); }

TEST(FlywheelFigures, KeysOfARun) {
  const json keys = parsed(flywheel_json(some_run(), ""));
  EXPECT_EQ(keys["over_stock"], 3);
  EXPECT_EQ(keys["over_stock_best"], 2);
  EXPECT_EQ(keys["over_own_none"], 1.5);
  EXPECT_EQ(keys["over_stock_4"], 2.5);
  EXPECT_EQ(keys["over_own_none_4"], 1.25);
  EXPECT_EQ(keys["online_over_static"], 1.3);
  EXPECT_EQ(keys["worst_window_over_none"], 1.2) << "three pairs are too few for a window";
  EXPECT_TRUE(keys["hostile_over_none"].is_null());
  EXPECT_EQ(keys["failed"], 1);
  EXPECT_EQ(keys["swaps"], 7);
  EXPECT_EQ(keys["runs"].size(), 1u);
}

TEST(FlywheelFigures, HostileRunHasItsOwnKeyAlone) {
  Flywheel run = some_run();
  run.hostile = true;
  const json keys = parsed(flywheel_json(run, ""));
  EXPECT_TRUE(keys["over_stock"].is_null());
  EXPECT_TRUE(keys["worst_window_over_none"].is_null());
  EXPECT_GT(keys["hostile_over_none"], 1.2);
}

TEST(FlywheelFigures, SampledRunChangesNoKey) {
  Flywheel run = some_run();
  run.sampled = true;
  const json keys = parsed(flywheel_json(run, ""));
  EXPECT_TRUE(keys["over_stock"].is_null());
  EXPECT_EQ(keys["runs"][0]["ratios"][0]["over_own_none"], 1.5);
}

TEST(FlywheelFigures, MergeFillsWhatThisRunLacks) {
  Flywheel hostile = some_run();
  hostile.hostile = true;
  const auto first = flywheel_json(hostile, "");
  Flywheel second = some_run();
  second.arms.resize(5);  // one slot alone
  const json keys = parsed(flywheel_json(second, first.value()));
  EXPECT_FALSE(keys["hostile_over_none"].is_null());
  EXPECT_EQ(keys["over_stock"], 3);
  EXPECT_TRUE(keys["over_stock_4"].is_null());
  EXPECT_EQ(keys["failed"], 2);
  EXPECT_EQ(keys["swaps"], 14);
  EXPECT_EQ(keys["runs"].size(), 2u);
  EXPECT_FALSE(flywheel_json(second, "no json"));
}

TEST(FlywheelFigures, RatioOfSumsAndItsError) {
  Compared pairs;
  pairs.add({100, 1}, {100, 2});
  EXPECT_EQ(pairs.ratio_error(), 0);
  pairs.add({100, 1}, {100, 1});
  EXPECT_DOUBLE_EQ(pairs.ratio(), 1.5);
  // ln 2 and 0: mean ln 2 / 2, standard deviation ln 2 / sqrt 2, error of the mean ln 2 / 2.
  EXPECT_NEAR(pairs.ratio_error(), 1.5 * std::log(2) / 2, 1e-9);
  pairs.add({0, 0}, {100, 1});  // no answer: no pair
  EXPECT_EQ(pairs.pairs(), 2u);
}

TEST(FlywheelFigures, Quantiles) {
  EXPECT_EQ(quantile({}, 0.5), 0);
  EXPECT_EQ(quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(quantile({3, 1, 2}, 0.99), 3);
}

std::string traffic_file(const std::string& name, int count) {
  const std::string path = testing::TempDir() + "/flywheel-" + name + ".jsonl";
  std::ofstream file(path);
  for (int i = 0; i < count; ++i)
    file << json{{"id", name + "/" + std::to_string(i)},
                 {"messages", json::array({{{"role", "user"}, {"content", "hello"}}})}}
         << '\n';
  return path;
}

FlywheelOptions options_of(std::vector<std::string> args) {
  args.insert(args.begin(), {"-m", "x.gguf"});
  auto options = parse_flywheel_options(args);
  EXPECT_TRUE(options) << options.status().message();
  return options.value();
}

TEST(PromptStream, OrderedPartsEndByTokens) {
  const std::string files = traffic_file("one", 10) + "," + traffic_file("two", 10);
  const auto options =
      options_of({"--prompts", files, "--stream", "ordered", "--learn-tokens", "100",
                  "--static-tokens", "30", "--slots", "1,4", "--count", "3"});
  auto stream = PromptStream::open(options);
  ASSERT_TRUE(stream);
  EXPECT_EQ(stream->next(2, 0).front().id, "one/0");
  EXPECT_EQ(stream->next(2, 29).front().id, "one/2");
  EXPECT_EQ(stream->part(), 0u);
  EXPECT_EQ(stream->next(2, 30).front().id, "two/0");
  EXPECT_EQ(stream->part(), 1u);
  EXPECT_EQ(stream->given(9).size(), 2u);
  EXPECT_EQ(stream->given(1).front().id, "two/1");
  EXPECT_EQ(stream->kept_back(0).front().id, "two/4");
  EXPECT_EQ(stream->kept_back(1).back().id, "two/9");
  EXPECT_EQ(stream->next(9, 31).size(), 2u) << "what was kept back is never learnt from";
  EXPECT_TRUE(stream->next(9, 31).empty());
}

TEST(PromptStream, TooFewPrompts) {
  const auto options = options_of({"--prompts", traffic_file("few", 6), "--count", "6"});
  EXPECT_EQ(PromptStream::open(options).status().code(), StatusCode::kInvalid);
}

TEST(PromptStream, HostilePromptsAreSeededValidAndNew) {
  const auto prompts = hostile_prompts(200, 1), again = hostile_prompts(200, 1),
             other = hostile_prompts(200, 2);
  std::set<std::string> texts;
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(prompts[i].messages, again[i].messages);
    texts.insert(prompts[i].messages);
    EXPECT_FALSE(json::parse(prompts[i].messages)[0]["content"].get<std::string>().empty());
  }
  EXPECT_EQ(texts.size(), prompts.size());
  EXPECT_NE(prompts[0].messages, other[0].messages);
}

TEST(FlywheelOptions, QuickIsOnlyADefault) {
  const auto options =
      options_of({"--learn-tokens", "5", "--quick", "--prompts=a", "--", "-t", "2"});
  EXPECT_EQ(options.learn_tokens, 5);
  EXPECT_EQ(options.count, 3u);
  EXPECT_EQ(options.server_flags, (std::vector<std::string>{"-t", "2"}));
}

TEST(FlywheelOptions, WhatIsWrongIsNamed) {
  const std::vector<std::vector<std::string>> wrong = {
      {"--prompts", "a"},
      {"-m", "x"},
      {"-m", "x", "--prompts", "a", "--arms", "fast"},
      {"-m", "x", "--prompts", "a", "--slots", "0"},
      {"-m", "x", "--prompts", "a", "--stream", "calm"},
      {"-m", "x", "--prompts", "a", "--static-tokens", "5"},
      {"-m", "x", "--prompts", "a", "--stream", "hostile"},
      {"-m", "x", "--prompts", "a", "--trainer", "away"},
      {"-m", "x", "--prompts", "a", "--temperature"},
      {"-m", "x", "--prompts", "a", "--fast", "1"}};
  for (const auto& args : wrong)
    EXPECT_EQ(parse_flywheel_options(args).status().code(), StatusCode::kInvalid) << args.back();
}

}  // namespace
}  // namespace aurora
