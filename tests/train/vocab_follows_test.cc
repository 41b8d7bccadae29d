// The draft's vocabulary over weeks of traffic, from records made as they are read.
#include <gtest/gtest.h>

#include <functional>

#include "base/temp_dir.h"
#include "train/ledger_learner.h"
#include "train/train_loop.h"

namespace aurora {
namespace {

class EndlessBuffer final : public TraceBuffer {
 public:
  uint64_t end = 0;                           // sequence numbers 1 ... end are there
  std::function<TraceRecord(uint64_t)> make;  // of a sequence number

  Result<uint64_t> append(const TraceRecord&) override { return Status::invalid("read only"); }
  Result<std::vector<StoredRecord>> read(uint64_t after, size_t count, size_t) override {
    std::vector<StoredRecord> records;
    for (uint64_t i = after + 1; i <= end && records.size() < count; ++i)
      records.push_back({i, make(i)});
    return records;
  }
  Status remove_expired(int64_t) override { return Status::ok(); }
  Result<TraceBufferStats> stats() override {
    TraceBufferStats stats;
    stats.last_sequence = end;
    return stats;
  }
};

// All its tokens are `token`, and so says the law.
TraceRecord record_saying(uint64_t id, int32_t token) {
  TraceRecord r = toy_record({.id = id, .prompt_tokens = 1, .served_tokens = 3, .law_k = 1});
  for (int32_t& t : r.tokens) t = token;
  for (int32_t& t : r.laws.ids) t = token;
  return r;
}

TEST(VocabFollows, ANewLanguageGetsItsTokensAfterWeeksOfAnother) {
  constexpr uint64_t kWeeks = 20'000;
  const TempDir dir;
  auto registry = Registry::open(dir / "drafts");
  ASSERT_TRUE(registry.is_ok());
  LedgerLearner learner;
  TrainLoopOptions options;
  options.target = "toy";
  options.checkpoint_path = dir / "trainer.ckpt";
  options.shape = toy_shape();
  options.vocab_size = 8;
  options.columns_per_step = 20;
  options.checkpoint_every_s = 1e9;
  options.publish_first_records = 1 << 30;
  options.window.recent_max = 16;
  options.window.reservoir_max = 4;
  options.window.passes_mean = 1;
  EndlessBuffer endless;
  endless.make = [](uint64_t i) {
    return record_saying(i, static_cast<int32_t>(i <= kWeeks ? 20 + i % 8 : 30 + i % 8));
  };
  TrainLoop loop(options, {endless, *registry, learner, {}, {}, [](double) {}, nullptr});
  const auto drain = [&loop] {
    for (auto busy = loop.step(); busy && *busy;) busy = loop.step();
  };
  endless.end = kWeeks;
  drain();
  EXPECT_EQ(learner.ids, (std::vector<int64_t>{20, 21, 22, 23, 24, 25, 26, 27}));
  // Kept over a restart, as the books are.
  ASSERT_TRUE(loop.checkpoint().is_ok());
  EXPECT_GT(read_checkpoint(options.checkpoint_path)->vocab_at, kWeeks - 256);
  endless.end = kWeeks + 1500;
  drain();
  EXPECT_EQ(learner.ids, (std::vector<int64_t>{30, 31, 32, 33, 34, 35, 36, 37}));
}

}  // namespace
}  // namespace aurora
