#include "base/flags.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

using Args = std::vector<std::string>;

struct Options {
  std::string model;
  int depth = 3;
  float share = 0.1f;
  bool gate = true, once = false, help = false;
  int threads = 0;
  Args words;
};

CommandLine table(Options& o) {
  return {
      "tool run",
      "FILE... [flags]",
      "Runs.",
      {text_flag("-m, --model", "FILE", "the model", o.model),
       number_flag("--depth", "tokens of a draft", o.depth, 1, 16),
       number_flag("--share", "of the time", o.share, 0, 1, "S"),
       choice_flag("--gate", "draft only where it pays", o.gate, {{"on", true}, {"off", false}}),
       word_or_number_flag("--threads", "auto", 0, "of the trainer", o.threads, 1, 8),
       switch_flag("--once", "leave at the end", o.once), help_flag(o.help)},
      &o.words};
}

std::string refusal(const Args& args) {
  Options o;
  const Status status = parse_flags(table(o), args);
  return status ? "" : status.message();
}

TEST(Flags, ValuesReachTheirPlaceInEverySpelling) {
  Options o;
  ASSERT_TRUE(parse_flags(table(o), {"a", "-m", "x=y", "--depth=5", "--share", ".5", "--gate",
                                     "off", "--once", "--threads=4", "b", "--depth", "6"}));
  EXPECT_EQ(o.model, "x=y");
  EXPECT_EQ(o.depth, 6) << "the last one counts";
  EXPECT_EQ(o.share, 0.5f);
  EXPECT_FALSE(o.gate);
  EXPECT_TRUE(o.once);
  EXPECT_EQ(o.threads, 4);
  EXPECT_EQ(o.words, (Args{"a", "b"}));
  ASSERT_TRUE(parse_flags(table(o), {"--threads", "auto", "--model=--odd"}));
  EXPECT_EQ(o.threads, 0);
  EXPECT_EQ(o.model, "--odd");
}

TEST(Flags, WhatCannotBeIsOneSentence) {
  EXPECT_EQ(refusal({"--depht", "3"}),
            "there is no flag '--depht' here; `tool run --help` lists what there is");
  EXPECT_EQ(refusal({"--depth"}), "--depth needs a value: N");
  EXPECT_EQ(refusal({"--depth", "--once"}), "--depth needs a value: N") << "a flag is no value";
  EXPECT_EQ(refusal({"--depth", "-1"}), "--depth is '-1'; give a whole number from 1 to 16");
  EXPECT_EQ(refusal({"--depth=3x"}), "--depth is '3x'; give a whole number from 1 to 16");
  EXPECT_EQ(refusal({"--share", "nan"}), "--share is 'nan'; give a number from 0 to 1");
  EXPECT_EQ(refusal({"--gate", "maybe"}), "--gate is 'maybe'; give on or off");
  EXPECT_EQ(refusal({"--threads", "9"}),
            "--threads is '9'; give auto or a whole number from 1 to 8");
  EXPECT_EQ(refusal({"--once=yes"}), "--once takes no value");
  EXPECT_EQ(refusal({"--model="}), "--model is ''; give FILE");
}

TEST(Flags, WordsAreRefusedWhereThereAreNone) {
  Options o;
  CommandLine line = table(o);
  line.words = nullptr;
  EXPECT_EQ(parse_flags(line, {"a"}).message(),
            "there is no 'a' here; `tool run --help` lists what there is");
}

TEST(Flags, OthersAreHandedOnAsTheyAre) {
  Options o;
  CommandLine line = table(o);
  Args others;
  line.others = &others;
  ASSERT_TRUE(parse_flags(line, {"-c", "4096", "--depth", "2", "--port=80", "-mg", "0"}));
  EXPECT_EQ(others, (Args{"-c", "4096", "--port=80", "-mg", "0"}));
  EXPECT_EQ(o.depth, 2);
}

TEST(Flags, HandedOnFlagsAreCheckedAndKept) {
  Options o;
  Args kept;
  CommandLine line = table(o);
  line.flags = handed_on(std::move(line.flags), kept);
  ASSERT_TRUE(parse_flags(line, {"-m", "x", "--once", "--depth=4"}));
  EXPECT_EQ(kept, (Args{"--model", "x", "--once", "--depth", "4"}));
  EXPECT_FALSE(parse_flags(line, {"--depth", "99"}));
  EXPECT_EQ(kept.size(), 5u);
}

TEST(Flags, HelpHasEveryFlagItsRangeAndItsDefault) {
  Options o;
  const std::string help = help_of(table(o));
  for (const char* part : {"usage: tool run FILE... [flags]", "-m, --model FILE", "the model",
                           "tokens of a draft (1 to 16) [3]", "(0 to 1) [0.1]", "--gate on|off",
                           "[on]", "--threads auto|N", "[auto]", "--once"})
    EXPECT_NE(help.find(part), std::string::npos) << part << "\n" << help;
}

TEST(Flags, WordsOfAFlagLeaveOutWhatStandsForOthers) {
  Options o;
  const CommandLine line = table(o);
  EXPECT_EQ(words_of(line.flags[3]), (Args{"on", "off"}));
  EXPECT_EQ(words_of(line.flags[4]), (Args{"auto"}));
  EXPECT_TRUE(words_of(line.flags[0]).empty());
}

}  // namespace
}  // namespace aurora
