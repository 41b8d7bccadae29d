// What stands in the loop's way: records that cannot be learnt from or kill, checkpoints that
// cannot be gone on from. The others, and training, go on.
#include <filesystem>
#include <set>

#include "base/clock.h"
#include "metrics/trainer_status.h"
#include "train/train_loop_fixture.h"

namespace aurora {
namespace {

using TrainFaults = TrainLoopTest;

// One record with a tap that is not finite would spoil every step it is drawn into.
TEST_F(TrainFaults, ARecordThatIsNotFiniteIsLeftOutAlone) {
  append(4);
  TraceRecord broken = toy_record({.id = 900});
  broken.taps[30] = 0x7C00;
  ASSERT_TRUE(buffer_->append(broken).is_ok());
  TraceRecord token = toy_record({.id = 901});
  token.tokens[2] = kToyVocab + 5;
  ASSERT_TRUE(buffer_->append(token).is_ok());
  append(4);
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  for (uint64_t id : learner_.trained) EXPECT_LT(id, 900u);
  EXPECT_EQ(loop.figures().unusable[static_cast<size_t>(Unusable::kNotFinite)], 1u);
  EXPECT_EQ(loop.figures().unusable[static_cast<size_t>(Unusable::kToken)], 1u);
  EXPECT_EQ(cursor(), 10u);
  const auto status = read_trainer_status(options_.status_path);
  ASSERT_TRUE(status) << status.status().to_string();
  EXPECT_EQ(status->left_out_not_finite, 1);
  EXPECT_EQ(status->left_out_token, 1);
  EXPECT_EQ(status->left_out_failed, 0);
  EXPECT_EQ(status->dropped_records, 2);
}

TEST_F(TrainFaults, AFewBadStepsAreLeftOutAndOnlyBadOnesStopIt) {
  append(10);
  learner_.fail = 5;
  {
    TrainLoop loop(options_, seams());
    EXPECT_TRUE(loop.run([] { return false; }).is_ok());
    EXPECT_FALSE(learner_.trained.empty());
  }
  append(100);
  options_.window.passes_max = 1000;
  options_.window.passes_mean = 1000;
  learner_.fail = 100'000;
  TrainLoop loop(options_, seams());
  EXPECT_FALSE(loop.run([] { return false; }).is_ok());
}

// The others of its steps get all of their passes; it is dropped and gets none.
TEST_F(TrainFaults, ABadRecordIsDroppedAlone) {
  append(12);
  learner_.bad = 5;
  options_.window.holdout_every = 0;
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  EXPECT_EQ(loop.figures().dropped_records, 1u);
  std::map<uint64_t, int> passes;
  for (const uint64_t id : learner_.trained) ++passes[id];
  EXPECT_EQ(passes.size(), 11u);
  EXPECT_EQ(passes.count(5), 0u);
  for (const auto& [id, count] : passes) EXPECT_EQ(count, 3) << id;
  EXPECT_EQ(read_checkpoint(options_.checkpoint_path)->ranks[0].window.passes_total, 11u * 3);
}

// At the third start it is left out, and all others are trained.
TEST_F(TrainFaults, ARecordThatKillsIsSkippedAtTheThirdStart) {
  append(12);
  options_.window.holdout_every = 0;
  for (int life = 0; life < 3; ++life) {
    learner_ = LedgerLearner();
    learner_.deadly = 5;
    TrainLoop loop(options_, seams());
    ASSERT_TRUE(loop.resume().is_ok());
    if (life < 2) EXPECT_THROW(static_cast<void>(loop.run([] { return false; })), Killed);
    else ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  }
  const std::set<uint64_t> ever(learner_.trained.begin(), learner_.trained.end());
  EXPECT_EQ(ever.size(), 11u);
  EXPECT_EQ(ever.count(5), 0u);
  EXPECT_EQ(learner_.trained.size(), 11u * 3);
}

TEST_F(TrainFaults, ARecordThatKillsTheReplayIsSkippedToo) {
  append(12);
  options_.window.holdout_every = 1;
  options_.window.holdout_max = 4;
  for (int life = 0; life < 3; ++life) {
    learner_ = LedgerLearner();
    learner_.deadly = 11;
    learner_.deadly_replays = true;
    TrainLoop loop(options_, seams());
    ASSERT_TRUE(loop.resume().is_ok());
    if (life < 2) EXPECT_THROW(static_cast<void>(loop.run([] { return false; })), Killed);
    else ASSERT_TRUE(loop.run([] { return false; }).is_ok());
    if (life == 2) {
      EXPECT_GT(loop.figures().published, 0u);
    }
  }
}

TEST_F(TrainFaults, AskedToLeaveItLeavesTheReplayOff) {
  append(20);
  options_.window.holdout_every = 2;
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.run([this] { return learner_.replayed > 0; }).is_ok());
  EXPECT_EQ(learner_.replayed, 1);
  EXPECT_EQ(loop.figures().published, 0u);
  EXPECT_TRUE(read_checkpoint(options_.checkpoint_path));
}

// The server has set it aside and writes into another one, which the next trainer reads.
TEST_F(TrainFaults, ABufferThatWasMovedAwayEndsIt) {
  append(4);
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  std::filesystem::rename(dir_ / "traces", dir_ / "traces.bad");
  EXPECT_EQ(loop.run([] { return false; }).code(), StatusCode::kCorrupt);
}

TEST_F(TrainFaults, AForeignCheckpointIsSetAside) {
  Checkpoint foreign;
  foreign.target = "another";
  foreign.learner = learner_.save();
  ASSERT_TRUE(write_checkpoint(options_.checkpoint_path, foreign).is_ok());
  append(6);
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.resume().is_ok());
  EXPECT_EQ(read_checkpoint(options_.checkpoint_path + ".bad")->target, "another");
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  EXPECT_FALSE(learner_.trained.empty());
  EXPECT_EQ(read_checkpoint(options_.checkpoint_path)->target, "toy");
}

// Cut, flipped, not a checkpoint at all: each time training begins anew.
TEST_F(TrainFaults, ABrokenCheckpointIsSetAside) {
  append(6);
  {
    TrainLoop loop(options_, seams());
    ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  }
  const std::string good = *read_file(options_.checkpoint_path);
  std::string flipped = good;
  flipped[good.size() / 2] ^= 4;
  const std::string bad[] = {good.substr(0, good.size() / 2), flipped, "", "not a checkpoint"};
  for (const std::string& content : bad) {
    ASSERT_TRUE(write_file_atomically(options_.checkpoint_path, content));
    learner_ = LedgerLearner();
    TrainLoop loop(options_, seams());
    ASSERT_TRUE(loop.resume().is_ok());
    EXPECT_EQ(*read_file(options_.checkpoint_path + ".bad"), content);
    ASSERT_TRUE(loop.run([] { return false; }).is_ok());
    EXPECT_FALSE(learner_.trained.empty());
    EXPECT_TRUE(read_checkpoint(options_.checkpoint_path));
  }
}

TEST_F(TrainFaults, ACheckpointOfAnotherShapeIsSetAside) {
  append(6);
  {
    TrainLoop loop(options_, seams());
    ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  }
  learner_ = LedgerLearner();
  learner_.other_shape = true;
  TrainLoop loop(options_, seams());
  ASSERT_TRUE(loop.resume().is_ok());
  EXPECT_TRUE(read_checkpoint(options_.checkpoint_path + ".bad"));
  ASSERT_TRUE(loop.run([] { return false; }).is_ok());
  EXPECT_FALSE(learner_.trained.empty());
}

// Each takes 5 ms here and steps take none: no more than one in 50 times that.
TEST_F(TrainFaults, CheckpointsTakeASmallShareOfTheTime) {
  append(6);
  options_.checkpoint_every_s = 0;
  options_.window.passes_max = 1 << 20;
  options_.window.passes_mean = 1e9;
  learner_.save_us = 5'000;
  TrainLoop loop(options_, seams());
  const int64_t until_us = steady_us() + 600'000;
  while (steady_us() < until_us) ASSERT_TRUE(loop.step().is_ok());
  EXPECT_GE(learner_.saves, 1);
  EXPECT_LE(learner_.saves, 3);
}

}  // namespace
}  // namespace aurora
