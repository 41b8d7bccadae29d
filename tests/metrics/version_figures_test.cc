#include "metrics/version_figures.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "metrics/parse.h"

namespace aurora {
namespace {

const std::string kTokens = "aurora:version_generated_tokens_total";
const std::string kSteps = "aurora:version_target_steps_total";

std::string key(const std::string& name, int64_t version) {
  return name + "{version=\"" + std::to_string(version) + "\"}";
}

TEST(VersionFigures, EachVersionHasItsOwn) {
  VersionFigures figures;
  EXPECT_EQ(parse_metrics(figures.text()).at(key(kSteps, 0)), 0);
  figures.step(0);
  figures.token(0);
  figures.step(7);
  for (int i = 0; i < 3; ++i) figures.token(7);
  const auto samples = parse_metrics(figures.text());
  EXPECT_EQ(samples.size(), 4u);
  EXPECT_EQ(samples.at(key(kTokens, 0)), 1);
  EXPECT_EQ(samples.at(key(kSteps, 0)), 1);
  EXPECT_EQ(samples.at(key(kTokens, 7)), 3);
  EXPECT_EQ(samples.at(key(kSteps, 7)), 1);
}

TEST(VersionFigures, TheNinthSendsAwayTheOneUsedLeastLately) {
  VersionFigures figures;
  for (int64_t version = 1; version <= 8; ++version) figures.step(version);
  figures.step(1);  // still in service, while others are tried and put away
  figures.step(9);
  auto samples = parse_metrics(figures.text());
  EXPECT_EQ(samples.size(), 2 * (1 + VersionFigures::kVersionsMax));
  EXPECT_FALSE(samples.contains(key(kSteps, 2)));
  EXPECT_FALSE(samples.contains(key(kTokens, 2)));
  EXPECT_EQ(samples.at(key(kSteps, 1)), 2);
  EXPECT_EQ(samples.at(key(kSteps, 9)), 1);
  EXPECT_TRUE(samples.contains(key(kSteps, 0)));
  figures.token(2);  // comes back, in the place of 3
  samples = parse_metrics(figures.text());
  EXPECT_EQ(samples.at(key(kSteps, 2)), 0);
  EXPECT_EQ(samples.at(key(kTokens, 2)), 1);
  EXPECT_FALSE(samples.contains(key(kSteps, 3)));
}

// Each version gets as many tokens as its number says, later ones fewer: counts of another would
// be too many.
TEST(VersionFigures, AReaderNeverSeesAnothersCounts) {
  VersionFigures figures;
  std::atomic<bool> done{false};
  std::jthread writer([&] {
    for (int64_t version = 2000; version > 0; --version)
      for (int64_t i = 0; i < version; ++i) figures.token(version);
    done = true;
  });
  size_t looks = 0;
  while (!done || looks == 0) {
    ++looks;
    for (const auto& [name, value] : parse_metrics(figures.text())) {
      if (!name.starts_with(kTokens)) continue;
      const size_t at = name.find('"') + 1;
      ASSERT_LE(value, std::stod(name.substr(at))) << name;
    }
  }
}

}  // namespace
}  // namespace aurora
