// The books: window, draft vocabulary, checkpoint.
#include "train/window.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/files.h"
#include "base/temp_dir.h"
#include "train/checkpoint.h"
#include "train/draft_vocab.h"
#include "train/toy_training.h"

namespace aurora {
namespace {

StoredRecord stored(uint64_t sequence) {
  return {sequence, toy_record({.id = 1000 + sequence, .served_tokens = 11})};
}

TEST(Window, OneInTenIsHeldOutAndNeverDrawn) {
  SmallRng rng(1);
  Window window({.holdout_max = 3, .holdout_every = 10, .passes_max = 4});
  window.add(stored(1), rng);
  EXPECT_TRUE(window.holdout().empty());
  window.add(stored(2), rng);
  EXPECT_EQ(window.holdout().size(), 1u);  // an early one
  for (uint64_t i = 3; i <= 40; ++i) window.add(stored(i), rng);
  std::set<uint64_t> held;
  for (const TraceRecord* r : window.holdout()) held.insert(r->id);
  EXPECT_EQ(held.size(), 3u);
  std::map<uint64_t, int> passes;
  while (window.has_work())
    for (const WindowEntry* e : window.draw(30, rng)) ++passes[e->id];
  EXPECT_EQ(passes.size(), 37u);
  for (const auto& [id, count] : passes) {
    EXPECT_EQ(count, 4);
    EXPECT_FALSE(held.contains(id));
  }
  EXPECT_EQ(window.passes_total(), 37u * 4);
  EXPECT_TRUE(window.draw(30, rng).empty());
}

TEST(Window, AboutOneInTenOverALongTime) {
  SmallRng rng(1);
  Window window({.recent_max = 1000, .holdout_max = 1000, .holdout_every = 10});
  for (uint64_t i = 1; i <= 1000; ++i) window.add(stored(i), rng);
  EXPECT_NEAR(static_cast<double>(window.holdout().size()), 100, 30);
}

TEST(Window, NoWorkWhenTheMeanOfThePassesIsReached) {
  SmallRng rng(1);
  Window window({.holdout_every = 0, .passes_mean = 2, .passes_max = 100});
  for (uint64_t i = 1; i <= 10; ++i) window.add(stored(i), rng);
  while (window.has_work()) window.draw(10, rng);
  EXPECT_EQ(window.passes_total(), 20u);
  EXPECT_TRUE(window.draw(10, rng).empty());
  window.add(stored(11), rng);
  EXPECT_TRUE(window.has_work());
}

// Busy for long, every record leaves with one pass; idle afterwards, only what is kept counts.
TEST(Window, PassesThatWereNeverMadeAreNotMadeUpFor) {
  SmallRng rng(1);
  Window window({.recent_max = 20, .reservoir_max = 0, .holdout_every = 0, .passes_mean = 2});
  for (uint64_t i = 1; i <= 1000; ++i) {
    window.add(stored(i), rng);
    if (i % 2 == 0) window.draw(1, rng);
  }
  std::map<uint64_t, int> passes;
  while (window.has_work())
    for (const WindowEntry* e : window.draw(30, rng)) passes[e->id] = e->passes;
  int sum = 0;
  for (const WindowEntry& e : window.books().entries) sum += e.passes;
  EXPECT_LE(sum, 20 * 2 + 2);
}

StoredRecord rollout(uint64_t sequence, uint64_t of) {
  StoredRecord r = stored(sequence);
  r.record.rollout_of = of;
  return r;
}

TEST(Window, RolloutsAreLearntFromUnlessTheirRequestIsHeldOut) {
  SmallRng rng(1);
  Window window({.recent_max = 1000, .holdout_max = 1000, .holdout_every = 2});
  for (uint64_t i = 1; i <= 40; ++i) window.add(stored(i), rng);
  std::set<uint64_t> held;
  for (const TraceRecord* r : window.holdout()) held.insert(r->id);
  ASSERT_GT(held.size(), 5u);
  ASSERT_LT(held.size(), 35u);
  for (uint64_t i = 1; i <= 40; ++i) window.add(rollout(100 + i, 1000 + i), rng);
  EXPECT_EQ(window.holdout().size(), held.size());
  EXPECT_EQ(window.recent_count(), 2 * (40 - held.size()));
}

TEST(Window, DrawsAboutTheColumnsAskedForAndNoRecordTwice) {
  SmallRng rng(2);
  Window window({.holdout_every = 0});
  for (uint64_t i = 1; i <= 20; ++i) window.add(stored(i), rng);
  const auto drawn = window.draw(45, rng);  // 10 columns a record
  EXPECT_EQ(drawn.size(), 5u);
  EXPECT_EQ(std::set<const WindowEntry*>(drawn.begin(), drawn.end()).size(), 5u);
  EXPECT_EQ(window.draw(1, rng).size(), 1u);
}

TEST(Window, OldRecordsGoToABoundedReservoir) {
  SmallRng rng(3);
  Window window(
      {.recent_max = 10, .reservoir_max = 5, .holdout_every = 0, .reservoir_share = 0.5f});
  for (uint64_t i = 1; i <= 100; ++i) window.add(stored(i), rng);
  std::set<uint64_t> recent, reservoir;
  for (const WindowEntry& e : window.books().entries)
    (e.place == Place::kReservoir ? reservoir : recent).insert(e.sequence);
  EXPECT_EQ(recent.size(), 10u);
  EXPECT_EQ(*recent.begin(), 91u);
  EXPECT_EQ(reservoir.size(), 5u);
  bool replayed = false;
  for (int i = 0; i < 10; ++i)
    for (const WindowEntry* e : window.draw(50, rng)) replayed |= e->place == Place::kReservoir;
  EXPECT_TRUE(replayed);
}

TEST(Window, BytesAreBounded) {
  SmallRng rng(4);
  const uint64_t each = record_bytes(stored(1).record);
  Window window({.holdout_every = 0, .bytes_max = 7 * each + each / 2});
  for (uint64_t i = 1; i <= 50; ++i) window.add(stored(i), rng);
  EXPECT_EQ(window.books().entries.size(), 7u);
}

// A hold-out that is not counted, or that is counted and cannot shrink, leaves no room for a
// window.
TEST(Window, TheHoldoutTakesAQuarterAtMost) {
  SmallRng rng(4);
  const uint64_t each = record_bytes(stored(1).record);
  Window window({.holdout_max = 24, .holdout_every = 2, .bytes_max = 40 * each});
  for (uint64_t i = 1; i <= 300; ++i) {
    window.add(stored(i), rng);
    ASSERT_LE(window.bytes(), 40 * each);
    ASSERT_LE(window.holdout().size(), 10u);
  }
  EXPECT_EQ(window.holdout().size(), 10u);
  EXPECT_GE(window.recent_count(), 15u);
}

// 200 columns in segments of 10: the request takes a quarter, from all along its answer.
TEST(Window, OneLongAnswerDoesNotPushOutTheOthers) {
  SmallRng rng(5);
  WindowOptions options;
  options.holdout_every = 0;
  options.segments = {.tokens_max = 11, .context_rows_max = 4};
  TraceRecord answer = toy_record({.id = 9000, .served_tokens = 201});
  options.bytes_max = 41 * segment_bytes_max(answer, options.segments);
  Window window(options);
  for (uint64_t i = 1; i <= 30; ++i) window.add(stored(i), rng);
  window.add({31, answer}, rng);
  std::vector<uint32_t> segments;
  std::set<uint64_t> others;
  for (const WindowEntry& e : window.books().entries) {
    if (e.id == 9000) segments.push_back(e.segment);
    else others.insert(e.id);
  }
  EXPECT_EQ(segments, (std::vector<uint32_t>{0, 2, 4, 6, 8, 10, 12, 14, 16, 18}));
  EXPECT_GE(others.size(), 25u);
  EXPECT_LE(window.bytes(), options.bytes_max);
}

// The buffer removes what has expired; a copy in memory must not outlive it.
TEST(Window, ExpiredRecordsLeave) {
  SmallRng rng(7);
  Window window({.recent_max = 8, .reservoir_max = 8, .holdout_max = 4, .holdout_every = 3});
  for (uint64_t i = 1; i <= 16; ++i) {
    StoredRecord record = stored(i);
    record.record.expires_ms = i % 4 == 0 ? 0 : static_cast<int64_t>(1000 * i);
    window.add(std::move(record), rng);
  }
  window.drop_expired(8000);
  for (const WindowEntry& e : window.books().entries)
    EXPECT_TRUE(e.sequence > 8 || e.sequence % 4 == 0) << e.sequence;
  EXPECT_EQ(window.books().entries.size(), 8u + 2);
  window.drop_expired(1'000'000);
  EXPECT_EQ(window.books().entries.size(), 4u);
  EXPECT_EQ(window.bytes(), 4 * record_bytes(stored(1).record));
}

// Wherever its segments have got to.
TEST(Window, ADroppedRecordLeavesWithAllOfItsSegments) {
  SmallRng rng(6);
  WindowOptions options = {.recent_max = 6, .reservoir_max = 8, .holdout_max = 2};
  options.holdout_every = 3;
  options.segments = {.tokens_max = 4, .context_rows_max = 1024};
  Window window(options);
  for (uint64_t i = 1; i <= 8; ++i) window.add(stored(i), rng);
  window.draw(30, rng);
  std::set<uint64_t> ids;
  for (const WindowEntry& e : window.books().entries) ids.insert(e.id);
  for (const uint64_t id : ids) {
    window.drop(id);
    EXPECT_FALSE(window.holds(id));
  }
  EXPECT_EQ(window.bytes(), 0u);
  // What is held out afterwards has its quarter of the bytes again.
  for (uint64_t i = 21; i <= 40; ++i) window.add(stored(i), rng);
  EXPECT_GE(window.holdout().size(), 2u);
}

TEST(Window, SegmentsOfARequestAreHeldOutTogether) {
  SmallRng rng(6);
  WindowOptions options;
  options.holdout_max = 1;
  options.holdout_every = 2;
  options.segments = {.tokens_max = 4, .context_rows_max = 1024};
  Window window(options);
  for (uint64_t i = 1; i <= 60; ++i) {
    window.add(stored(i), rng);
    std::map<uint64_t, std::set<Place>> places;
    std::map<uint64_t, int> pieces;
    for (const WindowEntry& e : window.books().entries) {
      places[e.id].insert(e.place == Place::kHoldout ? Place::kHoldout : Place::kRecent);
      ++pieces[e.id];
    }
    for (const auto& [id, of_request] : places) EXPECT_EQ(of_request.size(), 1u) << id;
    for (const auto& [id, count] : pieces) EXPECT_EQ(count, 4) << id;
  }
  EXPECT_EQ(window.holdout().size(), 4u);
}

TEST(DraftVocab, TheHeaviestThenLowIds) {
  DraftVocab vocab(kToyVocab, 5);
  EXPECT_EQ(vocab.best(), first_ids(5));
  TraceRecord r;
  r.prompt_tokens = 1;
  r.tokens = {33, 30, 30, 7, -1, 4000};  // a prompt token; ids out of range are skipped
  r.laws.k = 1;
  r.laws.ids = {20};
  r.laws.logprobs = {std::log(0.5f)};
  vocab.observe(r);
  EXPECT_EQ(vocab.best(), (std::vector<int64_t>{0, 7, 20, 30, 33}));
  EXPECT_NEAR(vocab.covered({30}), 2 / 3.51, 1e-6);
  EXPECT_EQ(vocab.next({7, 20, 30, 34, 35}, 0.01), (std::vector<int64_t>{7, 20, 30, 34, 35}));
  EXPECT_EQ(vocab.next({7, 20, 31, 34, 35}, 0.01), vocab.best());
  DraftVocab again(kToyVocab, 5);
  again.restore(vocab.state());
  EXPECT_EQ(again.best(), vocab.best());
}

TEST(DraftVocab, WhatWasSaidLongAgoFades) {
  DraftVocab vocab(kToyVocab, 1);
  TraceRecord old;
  old.prompt_tokens = 0;
  old.tokens.assign(1000, 30);
  vocab.observe(old);
  TraceRecord now = old;
  now.tokens.assign(100, 20);
  vocab.observe(now);
  EXPECT_EQ(vocab.best(), std::vector<int64_t>{30});
  for (int i = 0; i < 4; ++i) vocab.halve();
  vocab.observe(now);
  EXPECT_EQ(vocab.best(), std::vector<int64_t>{20});
  for (int i = 0; i < 40; ++i) vocab.halve();
  EXPECT_TRUE(vocab.state().empty());
}

Checkpoint sample_checkpoint() {
  Checkpoint c;
  c.target = "0123456789abcdef";
  c.cursor = 77;
  c.ranks[0].rng = 5;
  c.steps = 12;
  c.trained_tokens = 3456;
  c.offered_at = 16;
  c.vocab_at = 64;
  c.version = 3;
  c.loss_first = 4.5;
  c.loss_mean = 2.5;
  c.ranks[0].window.seen = 77;
  c.ranks[0].window.entries = {{70, 700, 3, Place::kRecent, nullptr},
                               {71, 710, 0, Place::kHoldout, nullptr, 4}};
  c.vocab = {{3, 1.5f}, {9, 0.25f}};
  c.learner.head.resize(1000, std::byte{7});
  return c;
}

TEST(Checkpoint, RoundTrip) {
  const TempDir dir;
  const Checkpoint c = sample_checkpoint();
  ASSERT_TRUE(write_checkpoint(dir / "c", c).is_ok());
  auto read = read_checkpoint(dir / "c");
  ASSERT_TRUE(read.is_ok()) << read.status().to_string();
  EXPECT_EQ(read->target, c.target);
  EXPECT_EQ(read->cursor, 77u);
  EXPECT_EQ(read->loss_mean, 2.5);
  ASSERT_EQ(read->ranks.size(), 1u);
  EXPECT_EQ(read->ranks[0].rng, 5u);
  const auto& entries = read->ranks[0].window.entries;
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].passes, 3);
  EXPECT_EQ(entries[1].place, Place::kHoldout);
  EXPECT_EQ(entries[1].segment, 4u);
  EXPECT_EQ(read->vocab_at, 64u);
  EXPECT_EQ(read->vocab, c.vocab);
  EXPECT_EQ(read->learner.joined(), c.learner.joined());
}

TEST(Checkpoint, RoundTripOfTwoRanks) {
  const TempDir dir;
  Checkpoint c = sample_checkpoint();
  c.ranks.push_back({.rng = 6, .window = {}});
  c.ranks[1].window.entries = {{72, 720, 1, Place::kReservoir, nullptr}};
  ASSERT_TRUE(write_checkpoint(dir / "c", c).is_ok());
  const auto read = read_checkpoint(dir / "c");
  ASSERT_TRUE(read.is_ok()) << read.status().to_string();
  ASSERT_EQ(read->ranks.size(), 2u);
  EXPECT_EQ(read->ranks[0].rng, 5u);
  EXPECT_EQ(read->ranks[1].rng, 6u);
  ASSERT_EQ(read->ranks[1].window.entries.size(), 1u);
  EXPECT_EQ(read->ranks[1].window.entries[0].place, Place::kReservoir);
}

// As one rank wrote it before there were segments.
TEST(Checkpoint, VersionOneIsReadStill) {
  ByteWriter body;
  body.put<uint32_t>(3);
  body.put_bytes("toy");
  for (const uint64_t value : {77, 5, 12, 3456, 16}) body.put(value);
  body.put<int64_t>(3);
  body.put(4.5);
  body.put(2.5);
  for (const uint64_t value : {70, 71, 72}) body.put(value);  // the window's sums
  body.put<uint64_t>(1);
  for (const uint64_t value : {70, 700}) body.put(value);
  body.put<int32_t>(3);
  body.put<uint8_t>(1);
  body.put<uint64_t>(1);
  body.put<int32_t>(9);
  body.put(0.25f);
  body.put<uint64_t>(2);
  body.put<uint16_t>(0x0707);
  ByteWriter out;
  out.put_bytes("AURTRAIN");
  out.put<uint32_t>(1);
  out.put<uint64_t>(body.size());
  out.put(crc32c(body.bytes()));
  out.put_bytes({reinterpret_cast<const char*>(body.bytes().data()), body.size()});
  const auto read = decode_checkpoint(out.bytes(), "old");
  ASSERT_TRUE(read.is_ok()) << read.status().to_string();
  EXPECT_EQ(read->target, "toy");
  EXPECT_EQ(read->offered_at, 16u);
  EXPECT_EQ(read->vocab_at, 70u);  // as it was restored
  EXPECT_EQ(read->version, 3);
  ASSERT_EQ(read->ranks[0].window.entries.size(), 1u);
  EXPECT_EQ(read->ranks[0].window.entries[0].segment, 0u);
  EXPECT_EQ(read->ranks[0].window.entries[0].place, Place::kReservoir);
  EXPECT_EQ(read->vocab.size(), 1u);
  EXPECT_EQ(read->learner.bytes(), 2u);
}

TEST(Checkpoint, EveryCutAndEveryFlippedByteIsRefusedByName) {
  const TempDir dir;
  EXPECT_EQ(read_checkpoint(dir / "none").status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(write_checkpoint(dir / "c", sample_checkpoint()).is_ok());
  const std::string whole = *read_file(dir / "c");
  for (size_t i = 0; i < whole.size(); i += i < 300 ? 1 : 97) {
    std::string broken = whole;
    broken[i] = static_cast<char>(broken[i] ^ 0x10);
    std::ofstream(dir / "b") << broken;
    auto read = read_checkpoint(dir / "b");
    ASSERT_FALSE(read.is_ok()) << "byte " << i;
    EXPECT_NE(read.status().message().find(dir / "b"), std::string::npos);
    std::ofstream(dir / "b") << whole.substr(0, i);
    EXPECT_FALSE(read_checkpoint(dir / "b").is_ok());
  }
}

}  // namespace
}  // namespace aurora
