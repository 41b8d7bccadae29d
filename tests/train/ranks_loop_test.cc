// The loop on two ranks, as processes over loopback and one buffer, with a toy learner whose only
// weights are the list of records that trained it, those of all ranks: whoever is killed whenever,
// no (record, pass) may be in the surviving weights twice, and none may be missing.
#include <gtest/gtest.h>

#include <map>

#include "base/bytes.h"
#include "base/exit_code.h"
#include "base/files.h"
#include "base/temp_dir.h"
#include "train/rank_group.h"
#include "train/rank_process.h"
#include "train/toy_training.h"
#include "train/train_loop.h"

namespace aurora {
namespace {

constexpr int kPasses = 3;

int kill_after() {
  const char* value = std::getenv("AURORA_KILL_AFTER");
  return value ? std::atoi(value) : 0;
}

class SharedLedger final : public Learner {
 public:
  explicit SharedLedger(RankGroup* ranks) : ranks_(ranks) {}
  std::vector<uint64_t> trained;  // record ids, in the order of steps and ranks
  std::vector<int64_t> ids = first_ids(8);
  int empty_steps = 0;  // this rank joined without records

  Result<LearnResult> learn(RecordRefs records) override {
    if (calls_++ == kill_after() && kill_after() > 0)
      raise(std::string(rank_test()) == "hang" ? SIGSTOP : SIGKILL);
    if (records.empty()) ++empty_steps;
    std::vector<uint64_t> mine;
    for (const TraceRecord* r : records) mine.push_back(r->id);
    const auto all = ranks_->gather(std::as_bytes(std::span(mine)));
    if (!all) return all.status();
    for (const auto& bytes : *all) {
      ByteReader in(bytes);
      while (in.remaining() > 0) trained.push_back(in.get<uint64_t>());
    }
    return LearnResult{.loss = 1, .rows = 1, .columns = 1, .seconds = 0.01};
  }
  Result<std::vector<Leads>> leads(RecordRefs records, int) override {
    EXPECT_EQ(ranks_->rank(), 0);
    std::vector<Leads> out;
    for (const TraceRecord* r : records)
      out.emplace_back(static_cast<size_t>(r->served_tokens() - 1), uint8_t{1});
    return out;
  }
  DraftWeights snapshot() const override { return toy_draft(toy_shape(), ids, 1); }
  const std::vector<int64_t>& vocab() const override { return ids; }
  Status set_vocab(std::vector<int64_t> d2t) override {
    ids = std::move(d2t);
    return Status::ok();
  }
  uint64_t checksum() const override {
    uint64_t sum = 0;
    for (uint64_t id : trained) sum = sum * 31 + id;
    for (int64_t id : ids) sum = sum * 31 + static_cast<uint64_t>(id);
    return sum + drift;
  }
  SavedLearner save() const override {
    ByteWriter out;
    out.put<uint64_t>(trained.size());
    out.put_span<uint64_t>(trained);
    out.put_span<int64_t>(ids);
    return {std::move(out).take(), {}};
  }
  Status load(std::span<const std::byte> bytes) override {
    ByteReader in(bytes);
    trained = in.get_vector<uint64_t>(in.get<uint64_t>());
    ids = in.get_vector<int64_t>(in.remaining() / sizeof(int64_t));
    return in.ok() ? Status::ok() : Status::truncated("ledger");
  }
  uint64_t drift = 0;

 private:
  RankGroup* const ranks_;
  int calls_ = 0;
};

TrainLoopOptions loop_options(const std::string& dir) {
  TrainLoopOptions options;
  options.target = "toy";
  options.checkpoint_path = dir + "/trainer.ckpt";
  options.shape = toy_shape();
  options.vocab_size = 8;
  options.columns_per_step = 20;
  options.window.passes_max = kPasses;
  options.publish_first_records = 4;
  options.publish_every_records = 8;
  options.gate = false;
  options.once = true;
  options.checkpoint_every_s = 0;  // after every step
  return options;
}

int train_as_rank(const std::string& test, const std::string& dir) {
  const auto place = rank_from_environment();
  CHECK(place);
  const auto ranks = join_ranks(*place, test == "hang" ? 3 : 20);
  if (!ranks) return kRankLostExit;
  SharedLedger learner(ranks->get());
  if (test == "drift") learner.drift = static_cast<uint64_t>(place->rank);
  const auto buffer =
      open_lmdb_buffer({.dir = dir + "/traces", .role = TraceBufferOptions::Role::kReader});
  auto registry = Registry::open(dir + "/drafts");
  CHECK(buffer && registry);
  TrainLoop loop(
      loop_options(dir),
      {**buffer, *registry, learner,
       [](const std::string& path, const DraftWeights&) {
         return write_file_atomically(path, "draft");
       },
       [&](const std::string&) -> Result<std::unique_ptr<Scorer>> {
         return std::unique_ptr<Scorer>(std::make_unique<SharedLedger>(ranks->get()));
       },
       [](double seconds) { usleep(static_cast<useconds_t>(seconds * 1e6)); }, ranks->get()});
  Status status = loop.resume();
  if (status) status = loop.run([] { return false; });
  if (test == "empty" && place->rank == 1) CHECK(learner.empty_steps > 0);
  if ((*ranks)->lost()) {
    std::fprintf(stderr, "rank %d: %s\n", place->rank, status.message().c_str());
    _exit(kRankLostExit);
  }
  return status ? 0 : 1;
}

class RanksLoop : public testing::Test {
 protected:
  TempDir dir_;
  std::unique_ptr<TraceBuffer> buffer_ = std::move(*open_lmdb_buffer({.dir = dir_ / "traces"}));
  uint64_t next_id_ = 0;

  void append(int count) {
    for (int i = 0; i < count; ++i)
      ASSERT_TRUE(buffer_->append(toy_record({.id = ++next_id_})).is_ok());
  }
  RankRun ranks(int size = 2) { return {.test = "loop", .size = size, .args = {dir_.path()}}; }
  Checkpoint checkpoint() { return *read_checkpoint(dir_ / "trainer.ckpt"); }
  std::vector<uint64_t> trained() {
    const Checkpoint c = checkpoint();
    ByteReader in(c.learner.arrays.front());
    return in.get_vector<uint64_t>(in.get<uint64_t>());
  }
  std::map<uint64_t, int> passes() {
    std::map<uint64_t, int> count;
    for (uint64_t id : trained()) ++count[id];
    return count;
  }
  // Each record is held out, or was trained exactly so often.
  void expect_every_record_its_passes() {
    size_t held = 0;
    for (const RankBooks& of_rank : checkpoint().ranks)
      for (const WindowEntry& e : of_rank.window.entries) held += e.place == Place::kHoldout;
    const auto count = passes();
    EXPECT_EQ(count.size() + held, next_id_);
    for (const auto& [id, times] : count) EXPECT_EQ(times, kPasses) << "record " << id;
    EXPECT_EQ(checkpoint().cursor, next_id_);
  }
};

TEST_F(RanksLoop, EveryRecordIsTrainedByOneRank) {
  append(40);
  ASSERT_TRUE(all_done(run_ranks(ranks())));
  expect_every_record_its_passes();
  const Checkpoint c = checkpoint();
  ASSERT_EQ(c.ranks.size(), 2u);
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_GT(c.ranks[static_cast<size_t>(rank)].window.seen, 0u);
    for (const WindowEntry& e : c.ranks[static_cast<size_t>(rank)].window.entries)
      EXPECT_EQ(owner_rank(e.id, 2), rank);
  }
  EXPECT_EQ(c.trained_tokens, 40u * 7);
  // Rank 0 alone publishes.
  EXPECT_TRUE((*Registry::open(dir_ / "drafts")).newest("toy")->has_value());
}

TEST_F(RanksLoop, ARankWithoutRecordsTakesEveryStep) {
  for (uint64_t id = 1; id <= 12; ++id) {
    if (owner_rank(id, 2) == 1) continue;
    ASSERT_TRUE(buffer_->append(toy_record({.id = id})).is_ok());
  }
  RankRun run = ranks();
  run.test = "empty";
  ASSERT_TRUE(all_done(run_ranks(run)));
  for (const auto& [id, times] : passes()) {
    EXPECT_EQ(owner_rank(id, 2), 0);
    EXPECT_EQ(times, kPasses);
  }
  EXPECT_FALSE(trained().empty());
}

// kill -9 of either rank before any of its first steps; the other one ends with the code, and the
// group goes on from the checkpoint.
TEST_F(RanksLoop, AKilledRankEndsTheGroupWhichGoesOnFromTheCheckpoint) {
  int kills = 0;
  for (int life = 0; life < 10; ++life) {
    append(3);
    RankRun run = ranks();
    run.kill_rank = life % 2;
    run.kill_after = 1 + life % 3;
    const auto states = run_ranks(run);
    const int killed = states[static_cast<size_t>(run.kill_rank)];
    const int other = states[static_cast<size_t>(1 - run.kill_rank)];
    if (all_done(states)) continue;  // all was trained before
    ++kills;
    ASSERT_TRUE(WIFSIGNALED(killed)) << life;
    ASSERT_TRUE(WIFEXITED(other)) << life;
    EXPECT_EQ(WEXITSTATUS(other), kRankLostExit) << life;
    for (const auto& [id, times] : passes()) EXPECT_LE(times, kPasses) << "record " << id;
  }
  EXPECT_GE(kills, 5);
  ASSERT_TRUE(all_done(run_ranks(ranks())));
  expect_every_record_its_passes();
}

TEST_F(RanksLoop, ARankThatHangsEndsTheGroupAfterTheTimeout) {
  append(12);
  RankRun run = ranks();
  run.test = "hang";
  run.kill_rank = 1;
  run.kill_after = 2;
  run.kill_the_rest = true;
  const auto states = run_ranks(run);
  ASSERT_TRUE(WIFEXITED(states[0]));
  EXPECT_EQ(WEXITSTATUS(states[0]), kRankLostExit);
  ASSERT_TRUE(all_done(run_ranks(ranks())));
  expect_every_record_its_passes();
}

// Two ranks, then three, then two: each takes its share of what the others had.
TEST_F(RanksLoop, AnotherNumberOfRanksGoesOnFromTheSameCheckpoint) {
  append(12);
  RankRun run = ranks();
  run.kill_rank = 1;
  run.kill_after = 2;
  run_ranks(run);
  append(6);
  ASSERT_TRUE(all_done(run_ranks(ranks(3))));
  expect_every_record_its_passes();
  append(6);
  ASSERT_TRUE(all_done(run_ranks(ranks())));
  expect_every_record_its_passes();
  EXPECT_EQ(checkpoint().ranks.size(), 2u);
}

TEST_F(RanksLoop, RanksWhoseWeightsDifferStopBeforeTheCheckpoint) {
  append(6);
  RankRun run = ranks();
  run.test = "drift";
  for (const int state : run_ranks(run)) EXPECT_EQ(WEXITSTATUS(state), kRankLostExit);
  EXPECT_FALSE(read_checkpoint(dir_ / "trainer.ckpt"));
}

TEST(RankPlace, ComesFromTheEnvironment) {
  EXPECT_EQ(rank_from_environment()->size, 1);
  setenv("WORLD_SIZE", "1", 1);
  EXPECT_EQ(rank_from_environment()->size, 1);
  EXPECT_EQ(*join_ranks(*rank_from_environment(), 1), nullptr);
  setenv("WORLD_SIZE", "2", 1);
  EXPECT_EQ(rank_from_environment().status().code(), StatusCode::kInvalid);  // RANK is missing
  setenv("RANK", "2", 1);
  EXPECT_EQ(rank_from_environment().status().code(), StatusCode::kInvalid);  // 0 or 1
  setenv("RANK", "1", 1);
  setenv("MASTER_PORT", "29500", 1);
  EXPECT_EQ(rank_from_environment().status().code(), StatusCode::kInvalid);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  const auto place = rank_from_environment();
  ASSERT_TRUE(place.is_ok()) << place.status().to_string();
  EXPECT_EQ(place->rank, 1);
  EXPECT_EQ(place->port, 29500);
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) unsetenv(name);
}

TEST(RankPlace, NobodyElseComes) {
  const auto alone = join_ranks({.rank = 0,
                                 .size = 2,
                                 .master = "127.0.0.1",
                                 .port = free_port(),
                                 .agent_store = false,
                                 .prefix = {}},
                                1);
  EXPECT_EQ(alone.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(alone.status().message().find("--rank-timeout"), std::string::npos);
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) {
  if (const char* test = aurora::rank_test()) return aurora::train_as_rank(test, argv[1]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
