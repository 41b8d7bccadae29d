// Where refused tokens lie in a packed batch: tokens, positions, taps, laws, and who sees whom.
#include "train/branches.h"

#include <gtest/gtest.h>

#include "train/packed_batch.h"
#include "train/toy_training.h"

namespace aurora {
namespace {

// P = 2, C = 5: x_0 ... x_6, L = 6, rows 0 ... 5, of which columns 0 ... 4 are packed. Step 1
// accepts x_3 and refuses two tokens: t = 3. Step 2 refuses one at position L: t = 5, the row of no
// column.
TraceRecord record_by_hand() {
  TraceRecord r = toy_record({.prompt_tokens = 2, .served_tokens = 5});
  add_step(r, {.first = 3, .accepted = 1, .refused = {33, 34}, .draft_version = 6});
  add_step(r, {.first = 6, .accepted = 0, .refused = {35}, .draft_version = 9});
  EXPECT_TRUE(validate(r).is_ok()) << validate(r).to_string();
  return r;
}

PackOptions with_branches(int steps, int64_t version_min = 0) {
  PackOptions options;
  options.steps = steps;
  options.branches = [version_min](const TraceRecord& r) { return branch_nodes(r, version_min); };
  return options;
}

std::vector<float> taps_of(const std::vector<uint16_t>& taps, size_t row) {
  std::vector<float> out;
  for (size_t i = 0; i < 24; ++i) out.push_back(half_to_float(taps[row * 24 + i]));
  return out;
}

std::vector<float> embedding(int32_t token) {
  std::vector<float> out(8);
  EXPECT_TRUE(ToyRows().token_rows({&token, 1}, out.data()).is_ok());
  return out;
}

template <typename T>
std::vector<T> part(const std::vector<T>& all, int64_t row, size_t width) {
  const auto begin = all.begin() + row * static_cast<int64_t>(width);
  return {begin, begin + static_cast<int64_t>(width)};
}

TEST(Branches, ARefusedTokenIsASiblingOfTheServedOne) {
  const TraceRecord r = record_by_hand();
  const TraceRecord* records[] = {&r};
  auto batch = pack(records, index_vocab(first_ids(kToyVocab)), ToyRows(), with_branches(2));
  ASSERT_TRUE(batch.is_ok());
  EXPECT_EQ(batch->rows, 5);
  EXPECT_EQ(batch->path_queries(), 4);  // t = 1 ... 4
  ASSERT_EQ(batch->nodes, 3);
  EXPECT_EQ(batch->node_parent, (std::vector<int64_t>{-1, 0, -1}));
  EXPECT_EQ(batch->node_prefix, (std::vector<int64_t>{3, 3, 5}));  // rows before t
  const auto row_of = [&](int node) { return batch->query_row[static_cast<size_t>(4 + node)]; };
  const auto tap = [&](int node) { return part(batch->taps, row_of(node), 24); };
  const auto position = [&](int node) {
    return batch->position[static_cast<size_t>(row_of(node))];
  };

  // (a_3, 33) at RoPE 3, as (a_3, x_4) is: query 2 of the path.
  EXPECT_EQ(tap(0), taps_of(r.taps, 3));
  EXPECT_EQ(tap(0), part(batch->taps, batch->query_row[2], 24));
  EXPECT_EQ(position(0), 3);
  EXPECT_EQ(position(0), batch->position[static_cast<size_t>(batch->query_row[2])]);
  // (tap behind 33, 34) at RoPE 4; (a_5, 35) at RoPE 5.
  EXPECT_EQ(tap(1), taps_of(r.refused_taps, 0));
  EXPECT_EQ(position(1), 4);
  EXPECT_EQ(tap(2), taps_of(r.taps, 5));
  EXPECT_EQ(position(2), 5);
}

TEST(Branches, LabelsAreTheLawsBehindTheRefusedTokens) {
  const TraceRecord r = record_by_hand();
  const TraceRecord* records[] = {&r};
  auto batch = pack(records, index_vocab(first_ids(kToyVocab)), ToyRows(), with_branches(2));
  ASSERT_TRUE(batch.is_ok());
  const auto at = [&](int step, int node) {
    return static_cast<size_t>(step * batch->queries + batch->path_queries() + node);
  };
  const auto embed = [&](int step, int node) {
    return part(batch->embeds, batch->query_embed[at(step, node)], 8);
  };
  const auto law_ids = [&](int step, int node) {
    const int64_t law = batch->query_law[at(step, node)];
    EXPECT_EQ(batch->served[static_cast<size_t>(law)], -1);
    EXPECT_NEAR(batch->law_mass[static_cast<size_t>(law)], 0.89f, 1e-5);
    EXPECT_NEAR(batch->law_rest[static_cast<size_t>(law)], 0.11f, 1e-5);
    return part(batch->law_ids, law, 4);
  };
  for (int node = 0; node < 3; ++node) {
    EXPECT_EQ(embed(0, node), embedding(33 + node));
    EXPECT_EQ(law_ids(0, node), part(r.refused_laws.ids, node, 4));
  }
  // Step 1 of the first node: the second refused token, and the law behind it. The others end.
  EXPECT_EQ(embed(1, 0), embedding(34));
  EXPECT_EQ(law_ids(1, 0), part(r.refused_laws.ids, 1, 4));
  EXPECT_EQ(batch->query_law[at(1, 1)], -1);
  EXPECT_EQ(batch->query_law[at(1, 2)], -1);
}

TEST(Branches, ThePathIsPackedAsWithoutThem) {
  const TraceRecord r = record_by_hand();
  const TraceRecord* records[] = {&r, &r};
  const DraftIndex vocab = index_vocab(first_ids(kToyVocab));
  auto with = pack(records, vocab, ToyRows(), with_branches(3));
  auto without = pack(records, vocab, ToyRows(), {.steps = 3});
  ASSERT_TRUE(with.is_ok() && without.is_ok());
  EXPECT_EQ(with->requests[1].node0, 3);
  EXPECT_EQ(with->path_queries(), without->queries);
  EXPECT_EQ(part(with->taps, 0, without->taps.size()), without->taps);
  EXPECT_EQ(part(with->embeds, 0, without->embeds.size()), without->embeds);
  EXPECT_EQ(part(with->law_ids, 0, without->law_ids.size()), without->law_ids);
  for (int k = 0; k < 3; ++k)
    for (int q = 0; q < without->queries; ++q) {
      const auto here = static_cast<size_t>(k * with->queries + q);
      const auto there = static_cast<size_t>(k * without->queries + q);
      EXPECT_EQ(with->query_law[here], without->query_law[there]);
      EXPECT_EQ(with->query_embed[here], without->query_embed[there]);
    }
}

TEST(Branches, ACutPromptShortensWhatANodeSees) {
  TraceRecord r = toy_record({.prompt_tokens = 20, .served_tokens = 5});
  add_step(r, {.first = 21, .accepted = 0, .refused = {33}});
  const TraceRecord* records[] = {&r};
  PackOptions options = with_branches(1);
  options.context_rows_max = 6;  // rows 13 ... 22; t = 20
  auto batch = pack(records, index_vocab(first_ids(kToyVocab)), ToyRows(), options);
  ASSERT_TRUE(batch.is_ok());
  EXPECT_EQ(batch->node_prefix, (std::vector<int64_t>{7}));
  EXPECT_EQ(batch->position.back(), 20);
}

TEST(Branches, OldDraftsAreLeftOut) {
  const TraceRecord r = record_by_hand();
  const TraceRecord* records[] = {&r};
  EXPECT_EQ(newest_draft_version(records), 9);
  EXPECT_EQ(branch_nodes(r, 6).size(), 3u);
  const BranchList young = branch_nodes(r, 7);
  ASSERT_EQ(young.size(), 1u);
  EXPECT_EQ(young[0].parent, -1);
  EXPECT_EQ(young[0].refused, 2);
  EXPECT_TRUE(branch_nodes(r, 10).empty());
}

// A fork inside a branch: 33 with children 34 and 35. The column of 33 goes on with the first.
TEST(Branches, AnyTree) {
  const TraceRecord r = record_by_hand();
  const TraceRecord* records[] = {&r};
  PackOptions options;
  options.steps = 2;
  options.branches = [](const TraceRecord&) { return BranchList{{-1, 0}, {0, 1}, {0, 2}}; };
  auto batch = pack(records, index_vocab(first_ids(kToyVocab)), ToyRows(), options);
  ASSERT_TRUE(batch.is_ok());
  EXPECT_EQ(batch->node_parent, (std::vector<int64_t>{-1, 0, 0}));
  EXPECT_EQ(batch->node_prefix, (std::vector<int64_t>{3, 3, 3}));
  EXPECT_EQ(part(batch->taps, batch->query_row[5], 24), taps_of(r.refused_taps, 0));
  EXPECT_EQ(part(batch->taps, batch->query_row[6], 24), taps_of(r.refused_taps, 0));
  const auto step1 = static_cast<size_t>(batch->queries + batch->path_queries());
  EXPECT_EQ(part(batch->embeds, batch->query_embed[step1], 8), embedding(34));
  EXPECT_EQ(batch->query_law[step1 + 2], -1);
}

}  // namespace
}  // namespace aurora
