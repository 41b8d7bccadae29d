#include "train/train_options.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

TEST(TrainOptions, ValuesReachTheirPlace) {
  auto o = parse_train_options({"-m", "t.gguf", "--draft-depth", "3", "--gate", "off", "--train-lr",
                                "0.002", "--train-lr-fc", "0.01", "--draft-dtype", "f16",
                                "--train-once", "--train-vocab", "512"});
  ASSERT_TRUE(o.is_ok());
  EXPECT_EQ(o->model, "t.gguf");
  EXPECT_EQ(o->loop.draft_depth, 3);
  EXPECT_FALSE(o->loop.gate);
  EXPECT_FLOAT_EQ(o->learn.lr_layer, 0.002f);
  EXPECT_FLOAT_EQ(o->learn.lr_fc, 0.01f);
  EXPECT_EQ(o->dtype, DraftDtype::kF16);
  EXPECT_TRUE(o->loop.once);
  EXPECT_EQ(o->loop.vocab_size, 512);
}

TEST(TrainOptions, RatesAreTheLearnersUnlessGiven) {
  constexpr float kDefault = LearnOptions::kDefaultRate;
  EXPECT_EQ(parse_train_options({"-m", "t"})->learn.lr_layer, kDefault);
  const LearnOptions one = parse_train_options({"-m", "t", "--train-lr-head", "0"})->learn;
  EXPECT_EQ(one.lr_head, 0);
  EXPECT_EQ(one.lr_fc, kDefault);
  const auto all =
      parse_train_options({"-m", "t", "--train-lr", "0.002", "--train-lr-head", "auto"});
  EXPECT_EQ(all->learn.lr_head, kDefault);
  EXPECT_FLOAT_EQ(all->learn.lr_fc, 0.002f);
  EXPECT_NE(train_help().find("--train-lr X|auto"), std::string::npos);
}

TEST(TrainOptions, TheMachinesOwnShareByDefault) {
  const auto plain = parse_train_options({"-m", "t"});
  EXPECT_EQ(plain->nice, kIdleClass);
  EXPECT_EQ(plain->threads, 0);
  EXPECT_EQ(plain->learn.threads, 1);  // of who does not ask the machine
  const auto given = parse_train_options({"-m", "t", "--train-nice", "5", "--train-threads", "3"});
  EXPECT_EQ(given->nice, 5);
  EXPECT_EQ(given->learn.threads, 3);
  EXPECT_FALSE(parse_train_options({"-m", "t", "--train-nice", "-1"}));
  EXPECT_FALSE(parse_train_options({"-m", "t", "--train-threads", "0"}));
  EXPECT_NE(train_help().find("--train-threads auto|N"), std::string::npos);
}

TEST(TrainOptions, MemoryFollowsTheDraftUnlessGiven) {
  DraftWeights draft;
  draft.fc.resize(1000);
  EXPECT_EQ(memory_bytes_of(*parse_train_options({"-m", "t"}), draft), 1024u << 20);
  draft.fc.resize(50'000'000);
  EXPECT_EQ(memory_bytes_of(*parse_train_options({"-m", "t", "--train-window-mib", "100"}), draft),
            2'000'000'000u + (100u << 20));
  EXPECT_EQ(memory_bytes_of(*parse_train_options({"-m", "t", "--train-memory-mib", "70"}), draft),
            70u << 20);
}

TEST(TrainOptions, LossFlags) {
  const LearnOptions plain = parse_train_options({"-m", "t.gguf"})->learn;
  EXPECT_EQ(plain.objective, ObjectiveKind::kForwardKl);
  EXPECT_EQ(plain.discard_lambda, 0);
  EXPECT_FALSE(plain.reach_weights);
  auto o = parse_train_options({"-m", "t.gguf", "--objective", "overlap-nla", "--discard-lambda",
                                "0.3", "--discard-top-k", "8", "--branch-versions-max", "0",
                                "--step-weights", "reach"});
  ASSERT_TRUE(o.is_ok());
  EXPECT_EQ(o->learn.objective, ObjectiveKind::kOverlapNla);
  EXPECT_FLOAT_EQ(o->learn.discard_lambda, 0.3f);
  EXPECT_EQ(o->learn.discard_top_k, 8);
  EXPECT_EQ(o->learn.branch_versions_max, 0);
  EXPECT_TRUE(o->learn.reach_weights);
}

TEST(TrainOptions, BadFlagsAreNamed) {
  const std::vector<std::vector<std::string>> bad = {
      {"-m", "t", "--nonsense"},        {"-m", "t", "--draft-depth", "0"},
      {"-m", "t", "--train-lr", "abc"}, {"-m", "t", "--draft-dtype", "q2"},
      {"-m", "t", "--train-vocab"},     {"-m", "t", "--gate", "maybe"},
      {"-m", "t", "--objective", "kl"}, {"-m", "t", "--discard-lambda", "-1"},
      {"-m", "t", "--train-lr", "-1"}};
  for (const auto& args : bad) {
    auto o = parse_train_options(args);
    ASSERT_FALSE(o.is_ok());
    EXPECT_NE(o.status().message().find(args[2]), std::string::npos) << o.status().message();
  }
  EXPECT_NE(parse_train_options({}).status().message().find("-m"), std::string::npos);
}

TEST(TrainOptions, HelpNamesEveryFlagAndItsDefault) {
  const std::string help = train_help();
  EXPECT_NE(help.find("--train-reuse N"), std::string::npos);
  EXPECT_NE(help.find("--train-window-mib N"), std::string::npos);
  EXPECT_NE(help.find("[replay]"), std::string::npos);
  EXPECT_NE(help.find("accept-len-greedy"), std::string::npos);
  EXPECT_NE(help.find("[forward-kl]"), std::string::npos);
  EXPECT_TRUE(parse_train_options({"--help"})->help);
}

}  // namespace
}  // namespace aurora
