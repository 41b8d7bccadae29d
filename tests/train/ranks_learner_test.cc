// Two ranks, two processes, over loopback: their gradient is the one of the joined batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/bytes.h"
#include "base/files.h"
#include "base/temp_dir.h"
#include "train/rank_group.h"
#include "train/rank_process.h"
#include "train/toy_training.h"

namespace aurora {
namespace {

// What both sides of a comparison train: records by rank, steps, and how.
struct Lesson {
  std::vector<std::vector<TraceRecord>> records;  // of each rank
  std::vector<int64_t> vocab = first_ids(kToyVocab);
  LearnOptions options;
  int updates = 1;
};

std::vector<TraceRecord> some_records(uint64_t first, int count, int served) {
  std::vector<TraceRecord> records;
  for (int i = 0; i < count; ++i)
    records.push_back(
        toy_record({.id = first + static_cast<uint64_t>(i), .served_tokens = served}));
  return records;
}

Lesson lesson(const std::string& name) {
  Lesson l;
  l.options.unreached_share = 1;  // each rank draws for itself otherwise
  l.options.average_updates = 8;
  l.options.lr_fc = l.options.lr_head = l.options.lr_layer = 0.01f;
  l.records = {some_records(1, 4, 12), some_records(5, 2, 9)};  // 44 and 16 rows of step 0
  if (name == "long") l.updates = 8;
  if (name == "branches") {
    l.options.discard_lambda = 1.0f;
    l.options.branch_versions_max = 2;
    for (TraceRecord& r : l.records[0])
      add_step(r, {.first = 7, .accepted = 1, .refused = {33, 34}, .draft_version = 9});
    // Too old, by a draft that the other rank alone has seen.
    for (TraceRecord& r : l.records[1])
      add_step(r, {.first = 7, .accepted = 1, .refused = {35}, .draft_version = 6});
  }
  if (name == "reach") {
    l.options.objective = ObjectiveKind::kAcceptLen;
    l.options.reach_weights = true;
  }
  if (name == "empty") l.records[1].clear();
  if (name == "masked") {
    l.vocab.resize(20);
    for (TraceRecord& r : l.records[1])
      for (int32_t& id : r.laws.ids) id = 20 + id % 20;
  }
  if (name == "all-masked") l.vocab = {1000, 1001};
  if (name == "drawn") {
    l.options.unreached_share = 0.3f;
    l.options.dropout = l.options.tap_noise = 0.1f;
    l.updates = 8;
  }
  if (name == "broken") l.records[1][1].hidden = 4;
  return l;
}

struct Learnt {
  bool ok = true;
  LearnResult last;
  std::vector<std::byte> saved;
};

Learnt learn(const Lesson& l, const std::vector<TraceRecord>& records, RankGroup* ranks) {
  const ToyRows rows;
  auto learner =
      std::move(*make_learner(toy_draft(toy_shape(), l.vocab, 1), rows, l.options, ranks));
  std::vector<const TraceRecord*> refs;
  for (const TraceRecord& r : records) refs.push_back(&r);
  Learnt out;
  for (int i = 0; i < l.updates; ++i) {
    const auto result = learner->learn(refs);
    out.ok = out.ok && result;
    if (result) out.last = *result;
  }
  out.saved = learner->save().joined();
  return out;
}

std::string file_of(const std::string& dir, int rank) { return dir + "/" + std::to_string(rank); }

int learn_as_rank(const std::string& name, const std::string& dir) {
  const auto place = rank_from_environment();
  CHECK(place);
  const auto ranks = join_ranks(*place, 60);
  CHECK(ranks && *ranks);
  const Lesson l = lesson(name);
  const Learnt mine = learn(l, l.records[static_cast<size_t>(place->rank)], ranks->get());
  ByteWriter out;
  out.put<uint8_t>(mine.ok ? 1 : 0);
  out.put(mine.last.loss);
  out.put(mine.last.rows);
  out.put_bytes({reinterpret_cast<const char*>(mine.saved.data()), mine.saved.size()});
  const auto bytes = out.bytes();
  CHECK(write_file_atomically(file_of(dir, place->rank),
                              {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  return 0;
}

Learnt of_file(const std::string& path) {
  const std::string content = *read_file(path);
  ByteReader in(std::as_bytes(std::span(content)));
  Learnt l;
  l.ok = in.get<uint8_t>() != 0;
  l.last.loss = in.get<double>();
  l.last.rows = in.get<int>();
  const std::string rest = in.get_string(in.remaining());
  const auto bytes = std::as_bytes(std::span(rest));
  l.saved.assign(bytes.begin(), bytes.end());
  return l;
}

// One tensor as TorchLearner::save() has it.
struct Saved {
  std::vector<float> w, m;
};

std::vector<Saved> saved_tensors(const Learnt& learnt) {
  const DraftWeights shape = toy_draft(toy_shape(), first_ids(1), 1);
  ByteReader in(learnt.saved);
  in.get<int64_t>();
  const auto vocab = in.get<uint64_t>();
  in.get_vector<int64_t>(vocab);
  std::vector<Saved> out;
  for (const auto* t :
       {&shape.fc, &shape.attn_norm, &shape.hidden_norm, &shape.wq, &shape.wk, &shape.wv, &shape.wo,
        &shape.ffn_norm, &shape.gate, &shape.up, &shape.down, &shape.output_norm, &shape.output}) {
    const size_t count = t->size() * (t == &shape.output ? vocab : 1);
    Saved s;
    s.w = in.get_vector<float>(count);
    s.m = in.get_vector<float>(count);
    in.get_vector<float>(count);
    in.get_vector<float>(count);
    out.push_back(std::move(s));
  }
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.remaining(), 0u);
  return out;
}

// Largest difference over the largest value, of all tensors.
double difference(const Learnt& a, const Learnt& b, std::vector<float> Saved::*what) {
  const auto of_a = saved_tensors(a), of_b = saved_tensors(b);
  double worst = 0;
  for (size_t i = 0; i < of_a.size(); ++i) {
    double largest = 0, apart = 0;
    for (size_t j = 0; j < (of_a[i].*what).size(); ++j) {
      const double x = double{(of_a[i].*what)[j]}, y = double{(of_b[i].*what)[j]};
      EXPECT_TRUE(std::isfinite(x) && std::isfinite(y));
      largest = std::max(largest, std::abs(x));
      apart = std::max(apart, std::abs(x - y));
    }
    EXPECT_GT(largest, 0) << "tensor " << i;
    worst = std::max(worst, apart / largest);
  }
  return worst;
}

class RanksLearner : public testing::Test {
 protected:
  TempDir dir_;
  Learnt ranks_[2], joined_;

  void run(const std::string& name, bool ok = true) {
    ASSERT_TRUE(all_done(run_ranks({.test = name, .args = {dir_.path()}})));
    for (int rank = 0; rank < 2; ++rank) ranks_[rank] = of_file(file_of(dir_.path(), rank));
    const Lesson l = lesson(name);
    std::vector<TraceRecord> all = l.records[0];
    all.insert(all.end(), l.records[1].begin(), l.records[1].end());
    joined_ = learn(l, all, nullptr);
    // Whatever they learnt, it is the same, to the bit.
    EXPECT_EQ(ranks_[0].saved, ranks_[1].saved);
    EXPECT_TRUE(ranks_[0].ok);
    EXPECT_EQ(ranks_[1].ok, ok);
  }
  void expect_result_of_joined_batch() {
    for (const Learnt& rank : ranks_) {
      EXPECT_EQ(rank.last.rows, joined_.last.rows);
      EXPECT_NEAR(rank.last.loss, joined_.last.loss, 1e-5 * std::abs(joined_.last.loss));
    }
  }
};

// After one update from zero the first moment is the clipped gradient times 1 - beta1. Ranks add
// the same products of the same rows in another order: each sum of n terms in fp32 is off by about
// sqrt(n) * 2^-24 of its largest partial sum; n = 180 rows here, 1e-6, and the terms cancel a
// little.
constexpr double kGradientTolerance = 1e-5;

TEST_F(RanksLearner, TheGradientIsTheJoinedBatchs) {
  run("plain");
  expect_result_of_joined_batch();
  EXPECT_LT(difference(ranks_[0], joined_, &Saved::m), kGradientTolerance);
}

TEST_F(RanksLearner, TheGradientIsTheJoinedBatchsWithBranches) {
  run("branches");
  expect_result_of_joined_batch();
  EXPECT_LT(difference(ranks_[0], joined_, &Saved::m), kGradientTolerance);
}

TEST_F(RanksLearner, TheGradientIsTheJoinedBatchsByReach) {
  run("reach");
  expect_result_of_joined_batch();
  EXPECT_LT(difference(ranks_[0], joined_, &Saved::m), kGradientTolerance);
}

// AdamW divides by the root of the second moment: where a gradient is nearly nothing, a difference
// of 1e-5 of the largest one is a large part of it, and each update may then part by a share of
// the rate. 8 updates of rate 0.01, weights of about 1.
TEST_F(RanksLearner, SoAreTheWeights) {
  run("long");
  expect_result_of_joined_batch();
  EXPECT_LT(difference(ranks_[0], joined_, &Saved::w), 1e-3);
}

TEST_F(RanksLearner, ARankWithoutRowsJoinsWithZeros) {
  run("empty");
  EXPECT_EQ(ranks_[0].saved, joined_.saved);  // x + 0 is x
}

TEST_F(RanksLearner, ARankWhoseRowsAreAllMaskedJoinsWithZeros) {
  run("masked");
  expect_result_of_joined_batch();
  EXPECT_LT(difference(ranks_[0], joined_, &Saved::m), kGradientTolerance);
}

TEST_F(RanksLearner, AllRowsOfAllRanksMaskedChangeNothing) {
  run("all-masked");
  EXPECT_EQ(ranks_[0].last.rows, 0);
  EXPECT_EQ(ranks_[0].saved, joined_.saved);
}

TEST_F(RanksLearner, WhatRanksDrawForThemselvesLeavesThemTheSameWeights) {
  run("drawn");
  EXPECT_LT(difference(ranks_[0], ranks_[1], &Saved::w), 1e-9);
}

// The rank says so to its loop; the other one's records are learnt.
TEST_F(RanksLearner, ABatchThatCannotBeLearntCountsAsNone) {
  run("broken", /*ok=*/false);
  const Lesson l = lesson("broken");
  EXPECT_EQ(ranks_[0].saved, learn(l, l.records[0], nullptr).saved);
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) {
  if (const char* name = aurora::rank_test()) return aurora::learn_as_rank(name, argv[1]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
