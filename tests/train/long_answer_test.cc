// An answer that no training step could hold as a whole, under a bound on the address space: the
// scores of its columns over its rows alone are 4 GiB a tensor.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "base/temp_dir.h"
#include "train/toy_training.h"
#include "train/train_loop.h"

namespace aurora {
namespace {

constexpr rlim_t kRoom = 1ull << 30;
constexpr int kServed = 16'384;

rlim_t address_space_bytes() {
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
}

class LongAnswer : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = open_lmdb_buffer({.dir = dir_ / "traces", .bytes_max = 64u << 20});
    ASSERT_TRUE(opened.is_ok());
    buffer_ = std::move(*opened);
    learner_ = std::move(*make_learner(toy_draft(toy_shape(), first_ids(kToyVocab), 1), rows_, {}));
    options_.target = "toy";
    options_.shape = toy_shape();
    options_.vocab_size = kToyVocab;
    options_.once = true;
    options_.window.passes_max = 1;  // each segment once
    getrlimit(RLIMIT_AS, &before_);
    rlimit bounded = before_;
    bounded.rlim_cur = address_space_bytes() + kRoom;
    ASSERT_EQ(setrlimit(RLIMIT_AS, &bounded), 0);
  }
  void TearDown() override { setrlimit(RLIMIT_AS, &before_); }

  TrainSeams seams() {
    return {
        *buffer_,
        *registry_,
        *learner_,
        [](const std::string&, const DraftWeights&) { return Status::io("no place"); },
        [](const std::string&) -> Result<std::unique_ptr<Scorer>> { return Status::io("none"); },
        [](double) {}};
  }

  TempDir dir_;
  rlimit before_ = {};
  ToyRows rows_;
  std::unique_ptr<TraceBuffer> buffer_;
  std::unique_ptr<Registry> registry_ =
      std::make_unique<Registry>(std::move(*Registry::open(dir_ / "drafts")));
  std::unique_ptr<Learner> learner_;
  TrainLoopOptions options_;
};

TEST_F(LongAnswer, IsLearntFrom) {
  options_.window.holdout_every = 0;
  ASSERT_TRUE(buffer_->append(toy_record({.id = 1, .served_tokens = kServed})).is_ok());
  TrainLoop loop(options_, seams());
  const Status status = loop.run([] { return false; });
  EXPECT_TRUE(status.is_ok()) << status.to_string();
  EXPECT_EQ(loop.figures().trained_columns, static_cast<uint64_t>(kServed - 1));
  EXPECT_EQ(loop.figures().trained_tokens, static_cast<uint64_t>(kServed));
  EXPECT_GE(loop.figures().steps, 16u);
}

TEST_F(LongAnswer, IsReplayedByTheGate) {
  options_.window.holdout_every = 1;
  ASSERT_TRUE(buffer_->append(toy_record({.id = 1, .served_tokens = kServed})).is_ok());
  TrainLoop loop(options_, seams());
  const Status status = loop.run([] { return false; });
  EXPECT_TRUE(status.is_ok()) << status.to_string();
  EXPECT_EQ(loop.figures().offers, 1u);
  EXPECT_GE(loop.figures().holdout_accept_len, 1.0);  // 0: the replay failed
}

}  // namespace
}  // namespace aurora
