// The loop with a toy learner whose only weights are the list of (record, pass) pairs that trained
// it: whatever moment the trainer is killed at, no pair may be in the surviving weights twice.
#include <filesystem>
#include <set>

#include "metrics/trainer_status.h"
#include "train/train_loop_fixture.h"

namespace aurora {
namespace {

TEST_F(TrainLoopTest, TrainsEveryRecordSoOftenAndPublishes) {
  append(20);
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.resume().is_ok());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  EXPECT_GE(held_out(), 1u);
  EXPECT_EQ(learner_.trained.size(), (20 - held_out()) * 3);
  expect_no_pair_twice(3);
  EXPECT_EQ(cursor(), 20u);
  auto newest = registry_->newest("toy");
  ASSERT_TRUE(newest.is_ok() && newest->has_value());
  EXPECT_GE((*newest)->version, 2);
  EXPECT_NE((*newest)->reason.find("gate off"), std::string::npos);
  const auto status = read_trainer_status(options_.status_path);
  ASSERT_TRUE(status) << status.status().to_string();
  EXPECT_EQ(status->trained_tokens, 140);
  EXPECT_EQ(status->draft_version, static_cast<double>((*newest)->version));
  EXPECT_EQ(status->published, static_cast<double>(loop.figures().published));
  EXPECT_EQ(status->offers, static_cast<double>(loop.figures().offers));
  EXPECT_EQ(status->steps, static_cast<double>(loop.figures().steps));
  EXPECT_GT(status->cpu_seconds, 0);
  EXPECT_EQ(status->next_offer_records, 8);  // the last was made at the end
}

TEST_F(TrainLoopTest, RecordsOfOthersAreSkippedAndPassed) {
  TraceRecord other = toy_record({.id = 900});
  other.target = "another";
  ASSERT_TRUE(buffer_->append(other).is_ok());
  TraceRecord taps = toy_record({.id = 901});
  taps.tap_layers[0] = 1;
  ASSERT_TRUE(buffer_->append(taps).is_ok());
  append(3);
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  for (uint64_t id : learner_.trained) EXPECT_LT(id, 900u);
  EXPECT_EQ(cursor(), 5u);
}

TEST_F(TrainLoopTest, TheGateKeepsBackWhatIsNotBetter) {
  options_.gate = true;
  options_.gate_options.pays_above = 5;
  append(20);
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  EXPECT_GT(loop.figures().offers, 0u);
  EXPECT_EQ(loop.figures().published, 0u);
  EXPECT_GT(loop.figures().holdout_accept_len, 1.5);
  EXPECT_FALSE(registry_->newest("toy")->has_value());
}

// A server that serves faster than this machine learns: the newest traffic comes in, though what
// was read before has not had a pass.
TEST_F(TrainLoopTest, WhatTheServerWritesMeanwhileComesIn) {
  options_.once = false;
  options_.lag_look_every_s = 0;
  options_.window.holdout_every = 0;
  options_.columns_per_step = 5;  // a record a step
  append(100);
  TrainLoop loop(options_, seams());
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(loop.step().is_ok());
  EXPECT_GT(loop.figures().lag_records, 0u) << "it has enough to do";
  append(200);
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(loop.step().is_ok());
  EXPECT_LE(loop.figures().lag_records, 128u);
  EXPECT_GE(loop.figures().lag_records, 100u);
}

// Seven served tokens in segments of three: three of them, each with books of its own.
TEST_F(TrainLoopTest, SegmentsHaveTheirPassesOverARestart) {
  options_.window.segments.tokens_max = 3;
  options_.window.holdout_every = 0;
  append(4);
  {
    TrainLoop loop(options_, seams());
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(loop.step().is_ok());
    ASSERT_TRUE(loop.checkpoint().is_ok());
  }
  const size_t before = learner_.trained.size();
  EXPECT_GT(before, 0u);
  EXPECT_LT(before, 4u * 3 * 3);
  learner_ = LedgerLearner();
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.resume().is_ok());
  EXPECT_EQ(learner_.trained.size(), before);
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  expect_no_pair_twice(3 * 3);
  EXPECT_EQ(learner_.trained.size(), 4u * 3 * 3);
}

// Seven served tokens are six columns: two steps of three in each pass, none of them left out.
TEST_F(TrainLoopTest, ALongAnswerTakesSeveralSteps) {
  options_.columns_per_step = 3;
  options_.window.holdout_every = 0;
  append(4);
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  EXPECT_EQ(learner_.trained.size(), 4u * 3 * 2);
  EXPECT_EQ(loop.figures().steps, 4u * 3 * 2);
}

// At-least-once delivery: the same record under a second sequence, before and after a restart.
TEST_F(TrainLoopTest, ARecordDeliveredTwiceIsTrainedOnce) {
  append(6);
  next_id_ = 3;
  append(3);  // 4, 5, 6 again
  {
    TrainLoop loop(options_, seams());
    ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  }
  next_id_ = 0;
  append(8);  // all of them again, and two new ones
  learner_ = LedgerLearner();
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.resume().is_ok());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  expect_no_pair_twice(3);
  EXPECT_EQ(learner_.trained.size(), 7u * 3);  // one of eight is held out
  EXPECT_EQ(cursor(), 17u);
}

TEST_F(TrainLoopTest, ABufferThatWasMadeAnewIsFollowed) {
  append(6);
  {
    TrainLoop loop(options_, seams());
    ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  }
  buffer_.reset();
  std::filesystem::remove_all(dir_ / "traces");
  buffer_ = open_buffer();
  append(2);  // sequences 1 and 2, long passed
  learner_ = LedgerLearner();
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.resume().is_ok());
  ASSERT_TRUE(loop.step().is_ok());
  append(3);
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  EXPECT_EQ(std::set<uint64_t>(learner_.trained.begin(), learner_.trained.end()).count(11), 1u);
}

// Killed between any two steps, with checkpoints at varying moments, resumed, over and over.
TEST_F(TrainLoopTest, KilledBetweenAnyTwoSteps) {
  SmallRng rng(7);
  std::set<uint64_t> ever;
  for (int life = 0; life < 40; ++life) {
    append(static_cast<int>(rng.below(4)));
    learner_ = LedgerLearner();
    buffer_.reset();
    buffer_ = open_buffer();
    TrainLoop loop(options_, seams());
    ASSERT_TRUE(loop.resume().is_ok());
    expect_no_pair_twice(3);
    const size_t steps = rng.below(6);
    for (size_t i = 0; i < steps; ++i) {
      ASSERT_TRUE(loop.step().is_ok());
      if (rng.chance(0.3)) {
        ASSERT_TRUE(loop.checkpoint().is_ok());
      }
    }
    expect_no_pair_twice(3);
  }
  learner_ = LedgerLearner();
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.resume().is_ok());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  expect_no_pair_twice(3);
  ever.insert(learner_.trained.begin(), learner_.trained.end());
  EXPECT_GE(held_out(), 1u);
  EXPECT_EQ(ever.size(), next_id_ - held_out());
  EXPECT_EQ(learner_.trained.size(), ever.size() * 3);  // nothing lost either
  EXPECT_EQ(cursor(), next_id_);
}

TEST_F(TrainLoopTest, KilledWhilePublishing) {
  append(12);
  kill_after_ = 1;
  {
    TrainLoop loop(options_, seams());
    EXPECT_THROW(static_cast<void>(loop.run([] { return false; })), Killed);
  }
  kill_after_ = 0;
  learner_ = LedgerLearner();
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.resume().is_ok());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  expect_no_pair_twice(3);
  EXPECT_TRUE(registry_->newest("toy")->has_value());
}

TEST_F(TrainLoopTest, StopLeavesACheckpoint) {
  append(6);
  options_.once = false;
  int rounds = 0;
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.run([&rounds] { return ++rounds > 2; }).is_ok());
  auto checkpoint = read_checkpoint(options_.checkpoint_path);
  ASSERT_TRUE(checkpoint.is_ok());
  EXPECT_EQ(checkpoint->steps, 2u);
}

}  // namespace
}  // namespace aurora
