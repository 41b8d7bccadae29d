#include "replay/chat_stream.h"

#include <gtest/gtest.h>

#include <string>

namespace aurora {
namespace {

std::string event(const std::string& data) { return "data: " + data + "\n\n"; }

std::string piece(const std::string& text) {
  return event(R"({"choices":[{"delta":{"content":")" + text + R"("}}]})");
}

const std::string kLast = event(
    R"({"choices":[{"delta":{}}],"timings":{"predicted_n":3,"predicted_ms":60.5,"draft_n":2,"draft_n_accepted":1}})");
const std::string kDone = event("[DONE]");

TEST(ChatStream, TextTimesAndCounts) {
  ChatStream stream(1'000'000);
  EXPECT_TRUE(stream.take(event(R"({"choices":[{"delta":{"role":"assistant","content":null}}]})"),
                          1'010'000));
  EXPECT_TRUE(stream.take(piece("Hel"), 1'050'000));
  EXPECT_TRUE(stream.take(piece("lo"), 1'070'000));
  EXPECT_TRUE(stream.take(piece("!") + kLast + kDone, 1'070'500));
  const auto answer = stream.end();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer.value().text, "Hello!");
  EXPECT_EQ(answer.value().tokens, 3);
  EXPECT_DOUBLE_EQ(answer.value().decode_ms, 60.5);
  EXPECT_EQ(answer.value().draft_tokens, 2);
  EXPECT_EQ(answer.value().accepted_tokens, 1);
  EXPECT_DOUBLE_EQ(answer.value().first_ms, 50);
  ASSERT_EQ(answer.value().gaps_ms.size(), 2u);
  EXPECT_DOUBLE_EQ(answer.value().gaps_ms[0], 20);
  EXPECT_DOUBLE_EQ(answer.value().gaps_ms[1], 0.5);
}

TEST(ChatStream, PiecesOfAnySize) {
  const std::string all = ": sign of life\r\n" + piece("a") + piece("b") + kLast + kDone;
  ChatStream stream(0);
  for (const char c : all) ASSERT_TRUE(stream.take({&c, 1}, 1));
  const auto answer = stream.end();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer.value().text, "ab");
}

TEST(ChatStream, ThoughtsAreText) {
  ChatStream stream(0);
  EXPECT_TRUE(stream.take(event(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})"), 5000));
  EXPECT_TRUE(stream.take(piece("so") + kDone, 6000));
  const auto answer = stream.end();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer.value().text, "hmso");
  EXPECT_DOUBLE_EQ(answer.value().first_ms, 5);
}

TEST(ChatStream, BrokenOff) {
  ChatStream stream(0);
  EXPECT_TRUE(stream.take(piece("a") + kLast, 1));
  EXPECT_EQ(stream.end().status().code(), StatusCode::kCorrupt);
}

TEST(ChatStream, ErrorInTheStream) {
  ChatStream stream(0);
  EXPECT_FALSE(stream.take(piece("a") + event(R"({"error":{"message":"context full"}})"), 1));
  const auto answer = stream.end();
  EXPECT_FALSE(answer);
  EXPECT_NE(answer.status().message().find("context full"), std::string::npos);
}

TEST(ChatStream, LineWithoutEnd) {
  ChatStream stream(0);
  const std::string part(1u << 20, 'x');
  int taken = 0;
  while (taken < 8 && stream.take(part, 1)) ++taken;
  EXPECT_EQ(taken, 4);
}

}  // namespace
}  // namespace aurora
