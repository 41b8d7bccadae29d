#include "live/live_history.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "base/json_text.h"

namespace aurora {
namespace {

LivePoint point(uint64_t tokens) {
  LivePoint p{};
  p[static_cast<size_t>(LiveField::kTokens)] = static_cast<double>(tokens);
  return p;
}

size_t count(const std::string& text, const std::string& what) {
  size_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

std::string seen_of(const std::string& json) {
  const size_t at = json.find("\"seen\":\"") + 8;
  return json.substr(at, json.find('"', at) - at);
}

size_t points_of(const std::string& json) {
  const size_t at = json.find("\"points\":[");
  return count(json.substr(at, json.find("\"events\"") - at), "[") - 1;
}

TEST(LiveHistory, OnlyWhatIsNewIsTold) {
  LiveHistory history;
  EXPECT_TRUE(history.due(0));
  history.add(point(0));
  EXPECT_FALSE(history.due(31));
  EXPECT_TRUE(history.due(32));
  EXPECT_FALSE(history.due_at_end(7)) << "many short answers are no more points than a long one";
  EXPECT_TRUE(history.due_at_end(8));
  history.happened({1000, 5, "serves", 3, "said \"so\"\n"});
  const std::string first = history.json("");
  EXPECT_EQ(points_of(first), 1u);
  EXPECT_NE(first.find(R"("text":"said \"so\" ")"), std::string::npos) << first;
  EXPECT_NE(first.find("\"whole\":true"), std::string::npos);

  EXPECT_EQ(points_of(history.json(seen_of(first))), 0u);
  history.add(point(40));
  history.happened({1001, 40, "put_away", 4, ""});
  const std::string second = history.json(seen_of(first));
  EXPECT_EQ(points_of(second), 1u);
  EXPECT_EQ(count(second, "\"kind\""), 1u);
  EXPECT_NE(second.find("\"whole\":false"), std::string::npos);
}

TEST(LiveHistory, WhoSaysWhatIsNotSoGetsEverything) {
  LiveHistory history;
  for (uint64_t i = 0; i < 3; ++i) history.add(point(i));
  for (const char* seen : {"x", "0-4-0", "1-1-0", "-1--1--1", "99999999999999999999-0-0", "0-2"})
    EXPECT_EQ(points_of(history.json(seen)), 3u) << seen;
}

TEST(LiveHistory, TheWholeLifeStaysInSight) {
  LiveHistory history;
  uint64_t tokens = 0, added = 0;
  std::string seen;
  for (; tokens < 1'000'000; tokens += 8) {
    if (!history.due(tokens)) continue;
    history.add(point(tokens));
    if (++added == 100) seen = seen_of(history.json(""));
  }
  const std::string json = history.json(seen);
  EXPECT_NE(json.find("\"whole\":true"), std::string::npos) << "points have gone since";
  EXPECT_LE(points_of(json), LiveHistory::kPointsMax);
  EXPECT_GE(points_of(json), LiveHistory::kPointsMax / 2 - 1);
  EXPECT_LT(added, 6 * LiveHistory::kPointsMax) << "rarer and rarer";
}

TEST(LiveHistory, TheOldestEventsGo) {
  LiveHistory history;
  std::string seen;
  for (int i = 0; i < 1000; ++i) {
    history.happened({i, 0, "serves", i, std::string(1000, 'x') + "ü"});
    if (i == 2) seen = seen_of(history.json(""));
  }
  const std::string json = history.json(seen);
  EXPECT_EQ(count(json, "\"kind\""), LiveHistory::kEventsMax);
  EXPECT_NE(json.find("\"version\":999"), std::string::npos);
  EXPECT_EQ(json.find("\"version\":871,"), std::string::npos);
  EXPECT_LT(json.size(), LiveHistory::kEventsMax * (LiveHistory::kTextBytesMax + 100));
}

TEST(LiveHistory, ALongTextEndsBetweenTwoCharacters) {
  LiveHistory history;
  history.happened({0, 0, "serves", 1, std::string(LiveHistory::kTextBytesMax - 1, 'x') + "üü"});
  EXPECT_EQ(history.json("").find("\xc3"), std::string::npos);
}

TEST(LiveHistory, ReadersAndTheWriterAtOnce) {
  LiveHistory history;
  std::thread reader([&] {
    std::string seen;
    for (int i = 0; i < 200; ++i) seen = seen_of(history.json(seen));
  });
  for (uint64_t tokens = 0; tokens < 200'000; tokens += 8) {
    if (history.due(tokens)) history.add(point(tokens));
    if (tokens % 8000 == 0) history.happened({0, tokens, "serves", 1, "so"});
  }
  reader.join();
  EXPECT_GE(points_of(history.json("")), 1u);
}

TEST(JsonText, QuotesAndNumbers) {
  EXPECT_EQ(json_quoted("a\"b\\c\td"), R"("a\"b\\c d")");
  EXPECT_EQ(json_number(1.5), "1.5");
  EXPECT_EQ(json_number(1.0 / 0.0), "null");
}

}  // namespace
}  // namespace aurora
