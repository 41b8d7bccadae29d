#include "replay/traffic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "replay/replay_options.h"

namespace aurora {
namespace {

std::string write_lines(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "/aurora-" + name;
  std::ofstream(path) << text;
  return path;
}

std::string prompt_lines(const std::string& domain, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += R"({"id": ")" + domain + "/" + std::to_string(i) + R"(", "domain": ")" + domain +
            R"(", "messages": [{"role": "user", "content": "say )" + std::to_string(i) +
            "\"}]}\n\n";
  }
  return text;
}

std::vector<std::string> ids(const std::vector<Prompt>& prompts) {
  std::vector<std::string> all;
  for (const Prompt& prompt : prompts) all.push_back(prompt.id);
  return all;
}

TEST(Traffic, TakesTheSamePartOfEachFileInOrder) {
  const std::string a = write_lines("a.jsonl", prompt_lines("a", 5));
  const std::string b = write_lines("b.jsonl", prompt_lines("b", 5));
  const auto prompts = read_traffic({a, b}, {.skip = 1, .count = 2});
  ASSERT_TRUE(prompts.is_ok()) << prompts.status().to_string();
  EXPECT_EQ(ids(prompts.value()), (std::vector<std::string>{"a/1", "a/2", "b/1", "b/2"}));
  EXPECT_EQ(prompts.value()[0].domain, "a");
  EXPECT_EQ(prompts.value()[0].messages, R"([{"content":"say 1","role":"user"}])");
}

TEST(Traffic, MixedIsTheSameShuffleForTheSameSeed) {
  const std::string path = write_lines("m.jsonl", prompt_lines("m", 40));
  const auto plain = read_traffic({path}, {});
  const auto one = read_traffic({path}, {.mixed = true, .seed = 1});
  const auto again = read_traffic({path}, {.mixed = true, .seed = 1});
  const auto other = read_traffic({path}, {.mixed = true, .seed = 2});
  ASSERT_TRUE(plain.is_ok() && one.is_ok() && again.is_ok() && other.is_ok());
  EXPECT_EQ(ids(one.value()), ids(again.value()));
  EXPECT_NE(ids(one.value()), ids(other.value()));
  EXPECT_NE(ids(one.value()), ids(plain.value()));
  auto sorted = ids(one.value()), expected = ids(plain.value());
  std::sort(sorted.begin(), sorted.end());
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(sorted, expected);
}

TEST(Traffic, NamesFileAndLineOfWhatIsNoPrompt) {
  const std::string path = write_lines("bad.jsonl", prompt_lines("x", 1) + "{\"id\": 3}\n");
  const auto prompts = read_traffic({path}, {});
  ASSERT_FALSE(prompts.is_ok());
  EXPECT_EQ(prompts.status().message(), path + ":3: no \"messages\"");
  EXPECT_FALSE(read_traffic({write_lines("cut.jsonl", "{\"id\": ")}, {}).is_ok());
  EXPECT_FALSE(read_traffic({write_lines("list.jsonl", "[1]")}, {}).is_ok());
  EXPECT_FALSE(read_traffic({write_lines("none.jsonl", "\n \n")}, {}).is_ok());
  EXPECT_EQ(read_traffic({path + ".no"}, {}).status().code(), StatusCode::kNotFound);
}

std::string refusal(const std::vector<std::string>& arguments) {
  const auto options = parse_replay_options(arguments);
  return options ? "" : options.status().message();
}

TEST(ReplayOptions, EveryWrongArgumentIsNamed) {
  EXPECT_EQ(refusal({"a.jsonl", "--concurrency=4", "--order", "mixed"}), "");
  EXPECT_EQ(refusal({}), "no traffic file given");
  EXPECT_EQ(refusal({"a.jsonl", "--tokens", "3"}),
            "there is no flag '--tokens' here; `aurora replay --help` lists what there is");
  EXPECT_EQ(refusal({"a.jsonl", "--count"}), "--count needs a value: N");
  EXPECT_EQ(refusal({"a.jsonl", "--concurrency", "0"}),
            "--concurrency is '0'; give a whole number from 1 to 256");
  EXPECT_EQ(refusal({"a.jsonl", "--count", "-1"}),
            "--count is '-1'; give a whole number from 0 to 1000000000");
  EXPECT_EQ(refusal({"a.jsonl", "--temperature", "warm"}),
            "--temperature is 'warm'; give a number from 0 to 100");
  EXPECT_EQ(refusal({"a.jsonl", "--order", "random"}),
            "--order is 'random'; give sequential or mixed");
  EXPECT_EQ(refusal({"a.jsonl", "--url", "localhost:80"}), "--url must begin with http://");
}

}  // namespace
}  // namespace aurora
