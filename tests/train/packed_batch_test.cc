#include "train/packed_batch.h"

#include <gtest/gtest.h>

#include "train/toy_training.h"

namespace aurora {
namespace {

TEST(PackedBatch, HalfToFloat) {
  EXPECT_EQ(half_to_float(0x3C00), 1.0f);
  EXPECT_EQ(half_to_float(0xC500), -5.0f);
  EXPECT_EQ(half_to_float(0x0001), 0x1p-24f);
  EXPECT_EQ(half_to_float(0x8000), 0.0f);
  EXPECT_EQ(half_to_float(0x7BFF), 65504.0f);
  EXPECT_TRUE(std::isinf(half_to_float(0x7C00)));
  EXPECT_TRUE(std::isnan(half_to_float(0x7E00)));
}

// P = 5, C = 4: L = 8, columns t = 4, 5, 6. Step k at t embeds x_{t+1+k}; its law is p_{t+1+k}, row
// t+2+k-P of the record, whose token is x_{t+2+k}.
TEST(PackedBatch, ColumnsOfOneRequest) {
  const TraceRecord r = toy_record({.prompt_tokens = 5, .served_tokens = 4});
  const TraceRecord* records[] = {&r};
  auto batch = pack(records, index_vocab(first_ids(kToyVocab)), ToyRows(),
                    {.steps = 3, .context_rows_max = 1000});
  ASSERT_TRUE(batch.is_ok());
  EXPECT_EQ(batch->rows, 7);          // columns 0 ... L-2
  EXPECT_EQ(batch->embeds_count, 8);  // x_1 ... x_8
  EXPECT_EQ(batch->query_row,
            (std::vector<int64_t>{4, 5, 6}));  // the first draft of the request is trained
  EXPECT_EQ(batch->query_law, (std::vector<int64_t>{1, 2, 3, 2, 3, -1, 3, -1, -1}));
  // Embedding index e is x_{e+1}: step 0 at t = 4 embeds x_5, index 4.
  EXPECT_EQ(std::vector<int64_t>(batch->query_embed.begin(), batch->query_embed.begin() + 6),
            (std::vector<int64_t>{4, 5, 6, 5, 6, 7}));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(batch->served[static_cast<size_t>(i)], r.tokens[static_cast<size_t>(5 + i)]);
    EXPECT_NEAR(batch->law_mass[static_cast<size_t>(i)], 0.96f, 1e-5);
  }
  EXPECT_EQ(batch->position.front(), 0);
  EXPECT_EQ(batch->position.back(), 6);
}

// P = 5, two prompt rows: columns t = 2, 3 besides, whose labels are x_4 (the prompt's last token),
// x_5 ... at step 0 and on; the laws begin with those of x_3, x_4.
TEST(PackedBatch, PromptRowsAreLabelledByThePrompt) {
  const TraceRecord r = toy_record({.prompt_tokens = 5, .served_tokens = 3});
  const TraceRecord* records[] = {&r};
  auto batch = pack(records, index_vocab(first_ids(kToyVocab)), ToyRows(),
                    {.steps = 2, .context_rows_max = 1000, .prompt_rows_max = 2});
  ASSERT_TRUE(batch.is_ok());
  EXPECT_EQ(batch->query_row, (std::vector<int64_t>{2, 3, 4, 5}));
  EXPECT_EQ(batch->query_law, (std::vector<int64_t>{1, 2, 3, 4, 2, 3, 4, -1}));
  EXPECT_EQ(batch->law_of_prompt, (std::vector<uint8_t>{1, 1, 0, 0, 0}));
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(batch->served[static_cast<size_t>(i)], r.tokens[static_cast<size_t>(3 + i)]);
  const auto k = static_cast<size_t>(batch->law_k);
  EXPECT_EQ(batch->law_ids[k], r.tokens[4]);
  EXPECT_EQ(batch->law_probs[k], 1.0f);
  EXPECT_EQ(batch->law_mass[1], 1.0f);
  EXPECT_NEAR(batch->law_mass[2], 0.96f, 1e-5);
  // More than there are: t = 0 ... P-2.
  batch = pack(records, index_vocab(first_ids(kToyVocab)), ToyRows(),
               {.steps = 1, .context_rows_max = 1000, .prompt_rows_max = 100});
  ASSERT_TRUE(batch.is_ok());
  EXPECT_EQ(batch->queries, 4 + 2);
  EXPECT_EQ(batch->law_of_prompt, (std::vector<uint8_t>{1, 1, 1, 1, 0, 0, 0}));
}

TEST(PackedBatch, LongPromptsKeepTheirPositions) {
  const TraceRecord r = toy_record({.prompt_tokens = 20, .served_tokens = 4});
  const TraceRecord* records[] = {&r};
  auto batch = pack(records, index_vocab(first_ids(kToyVocab)), ToyRows(),
                    {.steps = 1, .context_rows_max = 6});
  ASSERT_TRUE(batch.is_ok());
  EXPECT_EQ(batch->rows, 6 + 3);
  EXPECT_EQ(batch->position.front(), 13);
  EXPECT_EQ(batch->query_row, (std::vector<int64_t>{6, 7, 8}));
  EXPECT_EQ(batch->taps[0], half_to_float(r.taps[13u * 3u * 8u]));
}

TEST(PackedBatch, TokensOutsideTheVocabulary) {
  const TraceRecord r = toy_record({.served_tokens = 6});
  const TraceRecord* records[] = {&r};
  auto batch = pack(records, index_vocab({1000}), ToyRows(), {.steps = 2, .context_rows_max = 100});
  ASSERT_TRUE(batch.is_ok());
  for (float mass : batch->law_mass) EXPECT_EQ(mass, 0);
  for (int32_t id : batch->served) EXPECT_EQ(id, -1);
}

TEST(PackedBatch, RequestsWithoutColumnsAreLeftOut) {
  const TraceRecord one = toy_record({.id = 1, .served_tokens = 1});
  const TraceRecord two = toy_record({.id = 2, .served_tokens = 2});
  const TraceRecord* records[] = {&one, &two, &one};
  auto batch = pack(records, index_vocab(first_ids(kToyVocab)), ToyRows(),
                    {.steps = 1, .context_rows_max = 100});
  ASSERT_TRUE(batch.is_ok());
  EXPECT_EQ(batch->requests.size(), 1u);
  EXPECT_EQ(batch->queries, 1);
  const TraceRecord* none[] = {&one};
  batch = pack(none, index_vocab({1}), ToyRows(), {.steps = 1, .context_rows_max = 100});
  ASSERT_TRUE(batch.is_ok());
  EXPECT_EQ(batch->queries, 0);
}

}  // namespace
}  // namespace aurora
