#include "train/segments.h"

#include <gtest/gtest.h>

#include "train/packed_batch.h"
#include "train/record_check.h"
#include "train/toy_training.h"

namespace aurora {
namespace {

Result<PackedBatch> packed(const TraceRecord& record, int context, int prompt_rows = 0) {
  PackOptions options;
  options.steps = 3;
  options.context_rows_max = context;
  options.prompt_rows_max = prompt_rows;
  options.branches = [](const TraceRecord& r) { return branch_nodes(r, 0); };
  const TraceRecord* refs[] = {&record};
  return pack(refs, index_vocab(first_ids(kToyVocab)), ToyRows(), options);
}

// As a record of its own, apart from saying that it is a piece.
void expect_valid(TraceRecord piece) {
  EXPECT_FALSE(piece.cut_before > 0 && validate(piece).is_ok());
  piece.cut_before = 0;
  piece.mid_answer = false;
  EXPECT_TRUE(validate(piece).is_ok()) << validate(piece).to_string();
}

TraceRecord long_record() {
  TraceRecord r = toy_record({.id = 3, .prompt_tokens = 30, .served_tokens = 50});
  for (int first = 31; first < 78; first += 4)
    add_step(r, {.first = first, .accepted = 2, .refused = {33, 34}});
  EXPECT_TRUE(validate(r).is_ok());
  return r;
}

TEST(Segments, AShortRecordIsItsOnlySegment) {
  const TraceRecord r = toy_record({.prompt_tokens = 5, .served_tokens = 7});
  EXPECT_EQ(segment_count(r, {.tokens_max = 7, .context_rows_max = 4}), 1);
  EXPECT_FALSE(needs_cut(r, {.tokens_max = 7, .context_rows_max = 4}));
  EXPECT_TRUE(needs_cut(r, {.tokens_max = 6, .context_rows_max = 4}));
  EXPECT_TRUE(needs_cut(r, {.tokens_max = 7, .context_rows_max = 3}));
}

// What is cut off a prompt is what pack() does not read: the batch is the same to the last bit.
TEST(Segments, APromptCutAtIntakeGivesTheSameBatch) {
  const TraceRecord whole = long_record();
  const TraceRecord cut = cut_segment(whole, 0, {.tokens_max = 1000, .context_rows_max = 6});
  EXPECT_EQ(cut.rows(), 6 + 50);
  EXPECT_EQ(cut.taps.size(), static_cast<size_t>(cut.rows()) * 24);
  expect_valid(cut);
  const auto a = packed(whole, 6, 2), b = packed(cut, 6, 2);
  ASSERT_TRUE(a.is_ok() && b.is_ok());
  EXPECT_GT(a->nodes, 10);
  EXPECT_EQ(a->taps, b->taps);
  EXPECT_EQ(a->embeds, b->embeds);
  EXPECT_EQ(a->position, b->position);
  EXPECT_EQ(a->query_row, b->query_row);
  EXPECT_EQ(a->query_embed, b->query_embed);
  EXPECT_EQ(a->query_law, b->query_law);
  EXPECT_EQ(a->law_ids, b->law_ids);
  EXPECT_EQ(a->law_probs, b->law_probs);
  EXPECT_EQ(a->served, b->served);
  EXPECT_EQ(a->node_prefix, b->node_prefix);
  EXPECT_EQ(a->node_parent, b->node_parent);
}

// Every column of the answer in one segment, at its own position, with its own tap and label.
TEST(Segments, TogetherTheyAreTheRecord) {
  const TraceRecord whole = long_record();
  const auto all = packed(whole, 1000);
  ASSERT_TRUE(all.is_ok());
  for (const int tokens_max : {2, 3, 8, 25, 49}) {
    const SegmentOptions options = {.tokens_max = tokens_max, .context_rows_max = 10};
    const int count = segment_count(whole, options);
    EXPECT_EQ(count, (49 + tokens_max - 2) / (tokens_max - 1));
    int column = 0, nodes = 0;
    for (int s = 0; s < count; ++s) {
      const TraceRecord piece = cut_segment(whole, s, options);
      expect_valid(piece);
      EXPECT_LE(piece.served_tokens(), tokens_max);
      EXPECT_LE(piece.prompt_tokens, 11);
      EXPECT_EQ(piece.mid_answer, s > 0);
      const auto batch = packed(piece, 10, 2);
      ASSERT_TRUE(batch.is_ok());
      nodes += batch->nodes;
      const int prompt_rows = s == 0 ? 2 : 0;
      for (int q = prompt_rows; q < batch->path_queries(); ++q, ++column) {
        const auto row = static_cast<size_t>(batch->query_row[static_cast<size_t>(q)]);
        const auto of_all = static_cast<size_t>(all->query_row[static_cast<size_t>(column)]);
        EXPECT_EQ(batch->position[row], all->position[of_all]);
        EXPECT_EQ(batch->taps[row * 24], all->taps[of_all * 24]);
        const auto law = static_cast<size_t>(batch->query_law[static_cast<size_t>(q)]);
        const auto law_of_all = static_cast<size_t>(all->query_law[static_cast<size_t>(column)]);
        EXPECT_EQ(batch->served[law], all->served[law_of_all]);
        EXPECT_EQ(batch->law_mass[law], all->law_mass[law_of_all]);
      }
    }
    EXPECT_EQ(column, 49);
    EXPECT_LE(nodes, all->nodes);
    if (tokens_max > 8) {
      EXPECT_GE(nodes, all->nodes - 2 * count);
    }
  }
}

TEST(RecordCheck, NamesWhatIsWrong) {
  const DraftShape shape = toy_shape();
  TraceRecord r = long_record();
  EXPECT_EQ(check_record(r, "toy", shape), Unusable::kNone);
  EXPECT_EQ(check_record(r, "another", shape), Unusable::kForeign);
  EXPECT_EQ(check_record(toy_record({.served_tokens = 1}), "toy", shape), Unusable::kShort);
  r.taps[77] = 0xFC00;  // -inf
  EXPECT_EQ(check_record(r, "toy", shape), Unusable::kNotFinite);
  r.taps[77] = 0x7BFF;  // the largest there is
  EXPECT_EQ(check_record(r, "toy", shape), Unusable::kNone);
  r.refused_taps[5] = 0x7E01;
  EXPECT_EQ(check_record(r, "toy", shape), Unusable::kNotFinite);
  drop_branches(r);
  EXPECT_EQ(check_record(r, "toy", shape), Unusable::kNone);
  r.tokens[0] = kToyVocab;
  EXPECT_EQ(check_record(r, "toy", shape), Unusable::kToken);
  r.tap_layers[1] = 1;
  EXPECT_EQ(check_record(r, "toy", shape), Unusable::kShape);
}

}  // namespace
}  // namespace aurora
