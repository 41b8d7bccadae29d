#include "speculator/slot_trace.h"

#include <gtest/gtest.h>

#include <memory>

namespace aurora {
namespace {

constexpr int kHidden = 2;
constexpr int kLawCount = 2;

KeptRowPtr row(uint64_t id, int32_t token) {
  auto made = std::make_shared<KeptRow>();
  made->id = id;
  made->token = token;
  made->taps.assign(kTapCount * kHidden, static_cast<uint16_t>(token));
  return made;
}

void give_laws(SlotTrace& trace, int count) {
  for (int i = 0; i < count; ++i) {
    trace.step_laws().ids.insert(trace.step_laws().ids.end(), {1, 2});
    trace.step_laws().logprobs.insert(trace.step_laws().logprobs.end(), {-0.5f, -1.5f});
  }
}

// A prompt of tokens 10 ... 15, the answer 16 17 18: 17 was drafted, and 99 behind it was refused.
// The rows before `known` are missing.
struct Answer {
  SlotTrace trace;
  KeptRows rows;

  explicit Answer(size_t known) {
    RequestStart start;
    start.prompt = {10, 11, 12, 13, 14, 15};
    trace.start(start, true, kLawCount);
    for (size_t i = 0; i < 6; ++i)
      rows.rows.push_back(i < known ? nullptr : row(i + 1, static_cast<int32_t>(10 + i)));
    give_laws(trace, 1);
    trace.step(5, 0);
    trace.serve(16);

    trace.set_draft({17, 99}, {0.5f, 0.5f});
    for (const int32_t token : {16, 17, 99}) rows.rows.push_back(row(100, token));
    give_laws(trace, 3);
    trace.step(6, 1);
    trace.accept(1, rows, 8);
    trace.serve(17);
    trace.serve(18);
  }

  TraceRecord record() const {
    TraceRecord head;
    head.id = 1;
    head.created_ms = 1;
    head.target = "t";
    head.hidden = kHidden;
    return trace.to_record(rows.rows, head);
  }
};

TEST(SlotTrace, AWholePrompt) {
  const Answer answer(0);
  ASSERT_TRUE(answer.trace.has_rows(answer.rows));
  const TraceRecord record = answer.record();
  EXPECT_TRUE(validate(record)) << validate(record).message();
  EXPECT_EQ(record.tokens, (std::vector<int32_t>{10, 11, 12, 13, 14, 15, 16, 17, 18}));
  EXPECT_EQ(record.prompt_tokens, 6);
  ASSERT_EQ(record.steps.size(), 1u);
  EXPECT_EQ(record.steps[0].first, 7);
}

TEST(SlotTrace, APrefixWithoutRowsIsLeftOut) {
  const Answer answer(4);
  ASSERT_TRUE(answer.trace.has_rows(answer.rows));
  const TraceRecord record = answer.record();
  EXPECT_TRUE(validate(record)) << validate(record).message();
  EXPECT_EQ(record.tokens, (std::vector<int32_t>{14, 15, 16, 17, 18}));
  EXPECT_EQ(record.prompt_tokens, 2);
  EXPECT_EQ(record.taps.size(), static_cast<size_t>(4 * kTapCount * kHidden));
  EXPECT_EQ(record.taps.front(), 14);
  ASSERT_EQ(record.steps.size(), 1u);
  EXPECT_EQ(record.steps[0].first, 3);
  EXPECT_EQ(record.steps[0].accepted, 1);
  ASSERT_EQ(record.refused.size(), 1u);
  EXPECT_EQ(record.refused[0].position, 4);
  EXPECT_EQ(record.refused[0].token, 99);
}

TEST(SlotTrace, NoRowOfThePromptIsNoTrace) {
  const Answer answer(6);
  EXPECT_FALSE(answer.trace.has_rows(answer.rows));
}

}  // namespace
}  // namespace aurora
