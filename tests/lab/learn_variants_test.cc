#include "lab/learn_variants.h"

#include <gtest/gtest.h>

#include "lab/learn_curves.h"

namespace aurora {
namespace {

TEST(LearnVariants, OneALine) {
  auto variants = parse_learn_variants("# recipes\n\nbase:\nk5-a: --train-steps 5  --passes 2\n");
  ASSERT_TRUE(variants.is_ok());
  ASSERT_EQ(variants->size(), 2u);
  EXPECT_EQ((*variants)[0].name, "base");
  EXPECT_TRUE((*variants)[0].flags.empty());
  EXPECT_EQ((*variants)[1].name, "k5-a");
  EXPECT_EQ((*variants)[1].flags,
            (std::vector<std::string>{"--train-steps", "5", "--passes", "2"}));
}

TEST(LearnVariants, WhatIsWrongIsSaidWithItsLine) {
  const auto message = [](const char* text) {
    auto variants = parse_learn_variants(text);
    return variants ? std::string() : variants.status().message();
  };
  EXPECT_NE(message("a:\nb --x 1\n").find("line 2"), std::string::npos);
  EXPECT_NE(message("a:\na: --x 1\n").find("two variants called a"), std::string::npos);
  EXPECT_NE(message("../a:\n").find("names a file"), std::string::npos);
  EXPECT_NE(message(".:\n").find("names a file"), std::string::npos);
  EXPECT_NE(message("# nothing\n").find("no variant"), std::string::npos);
}

TEST(LearnCurves, ThePageNamesEachVariantAndEscapesIt) {
  const std::vector<LearnCurve> curves = {
      {"base", "", {{4000, 1.2}, {8000, 1.4}}, 1.3, 400},
      {"k<5", "--train-steps 5", {{4000, 1.25}, {8000, 1.5}}, 1.4, 300}};
  const std::string page = learn_curves_html(curves);
  EXPECT_NE(page.find("base"), std::string::npos);
  EXPECT_NE(page.find("k&lt;5"), std::string::npos);
  EXPECT_EQ(page.find("k<5"), std::string::npos);
  EXPECT_NE(page.find("1.500"), std::string::npos);
  // The first curve's last point: the right edge.
  EXPECT_NE(page.find("780.0,"), std::string::npos);
  EXPECT_NE(learn_curves_svg({}).find("<svg"), std::string::npos);
}

}  // namespace
}  // namespace aurora
