// A training loop over a buffer and a registry on disk, with a learner that keeps a ledger.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/files.h"
#include "base/temp_dir.h"
#include "train/ledger_learner.h"
#include "train/train_loop.h"

namespace aurora {

class TrainLoopTest : public testing::Test {
 protected:
  TempDir dir_;
  std::unique_ptr<TraceBuffer> buffer_ = open_buffer();
  std::unique_ptr<Registry> registry_ =
      std::make_unique<Registry>(std::move(*Registry::open(dir_ / "drafts")));
  LedgerLearner learner_;
  TrainLoopOptions options_;
  int kill_after_ = 0;  // calls of the seams; 0: never
  int calls_ = 0;

  std::unique_ptr<TraceBuffer> open_buffer() {
    return std::move(*open_lmdb_buffer({.dir = dir_ / "traces"}));
  }
  void SetUp() override {
    options_.target = "toy";
    options_.checkpoint_path = dir_ / "trainer.ckpt";
    options_.status_path = dir_ / "trainer.status";
    options_.shape = toy_shape();
    options_.vocab_size = 8;
    options_.columns_per_step = 20;
    options_.window.passes_max = 3;
    options_.publish_first_records = 4;
    options_.publish_every_records = 8;
    options_.gate = false;
    options_.once = true;
  }
  void append(int count) {
    for (int i = 0; i < count; ++i)
      ASSERT_TRUE(buffer_->append(toy_record({.id = ++next_id_})).is_ok());
  }
  TrainSeams seams() {
    return {*buffer_,
            *registry_,
            learner_,
            [this](const std::string& path, const DraftWeights&) {
              if (kill_after_ > 0 && ++calls_ >= kill_after_) throw Killed();
              return write_file_atomically(path, "draft");
            },
            [](const std::string&) -> Result<std::unique_ptr<Scorer>> {
              return std::unique_ptr<Scorer>(std::make_unique<LedgerLearner>());
            },
            [](double) {}};
  }
  void expect_no_pair_twice(int passes_max) {
    std::map<uint64_t, int> count;
    for (uint64_t id : learner_.trained) EXPECT_LE(++count[id], passes_max) << "record " << id;
  }
  // How far the last checkpoint has read.
  uint64_t cursor() const {
    const auto checkpoint = read_checkpoint(options_.checkpoint_path);
    return checkpoint ? checkpoint->cursor : 0;
  }
  // By the last checkpoint.
  size_t held_out() const {
    const auto checkpoint = read_checkpoint(options_.checkpoint_path);
    if (!checkpoint) return 0;
    const auto& entries = checkpoint->ranks[0].window.entries;
    return static_cast<size_t>(
        std::count_if(entries.begin(), entries.end(),
                      [](const WindowEntry& e) { return e.place == Place::kHoldout; }));
  }
  uint64_t next_id_ = 0;
};

}  // namespace aurora
