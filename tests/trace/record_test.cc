#include "trace/record.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "base/crc32c.h"
#include "trace/sample_record.h"

namespace aurora {
namespace {

TEST(Record, RoundTrip) {
  const TraceRecord r = sample_record(1);
  ASSERT_TRUE(validate(r)) << validate(r).to_string();
  const std::vector<std::byte> bytes = *encode(r);
  const Result<TraceRecord> got = decode(bytes);
  ASSERT_TRUE(got) << got.status().to_string();
  EXPECT_EQ(got->id, r.id);
  EXPECT_EQ(got->created_ms, r.created_ms);
  EXPECT_EQ(got->target, r.target);
  EXPECT_EQ(got->tenant, r.tenant);
  EXPECT_EQ(got->domain, r.domain);
  EXPECT_EQ(got->sampling.temperature, r.sampling.temperature);
  EXPECT_EQ(got->sampling.top_k, r.sampling.top_k);
  EXPECT_EQ(got->sampling.seed, r.sampling.seed);
  EXPECT_EQ(got->hidden, r.hidden);
  EXPECT_TRUE(std::ranges::equal(got->tap_layers, r.tap_layers));
  EXPECT_EQ(got->prompt_tokens, r.prompt_tokens);
  EXPECT_EQ(got->tokens, r.tokens);
  EXPECT_EQ(got->taps, r.taps);
  EXPECT_EQ(got->laws.k, r.laws.k);
  EXPECT_EQ(got->laws.ids, r.laws.ids);
  EXPECT_EQ(got->laws.logprobs, r.laws.logprobs);
  ASSERT_EQ(got->steps.size(), r.steps.size());
  EXPECT_EQ(got->steps[1].first, r.steps[1].first);
  EXPECT_EQ(got->steps[1].draft_version, r.steps[1].draft_version);
  EXPECT_EQ(got->steps[1].accepted, r.steps[1].accepted);
  EXPECT_EQ(got->steps[1].drafted, r.steps[1].drafted);
  EXPECT_EQ(got->steps[1].draft_probs, r.steps[1].draft_probs);
  ASSERT_EQ(got->refused.size(), r.refused.size());
  EXPECT_EQ(got->refused[3].position, r.refused[3].position);
  EXPECT_EQ(got->refused_taps, r.refused_taps);
  EXPECT_EQ(got->refused_laws.logprobs, r.refused_laws.logprobs);
  EXPECT_EQ(got->target_steps, r.target_steps);
  EXPECT_EQ(*encode(*got), bytes);
}

TEST(Record, ARolloutNamesItsRequestAndNothingElseChanges) {
  TraceRecord r = sample_record(1);
  EXPECT_EQ(decode(*encode(r))->rollout_of, 0u);
  const size_t of_a_request = encode(r)->size();
  r.rollout_of = uint64_t{5} << 32 | 3;
  std::vector<std::byte> bytes = *encode(r);
  EXPECT_EQ(bytes.size(), of_a_request + 8);
  ASSERT_TRUE(decode(bytes));
  EXPECT_EQ(decode(bytes)->rollout_of, r.rollout_of);
  EXPECT_EQ(decode(bytes)->tokens, r.tokens);
  // The flag lies outside the checksum.
  constexpr size_t kFlagsOffset = 6;
  bytes[kFlagsOffset] = std::byte{0};
  EXPECT_EQ(decode(bytes).status().code(), StatusCode::kCorrupt);
}

TEST(Record, SmallestRecord) {
  TraceRecord r = sample_record(1, {.prompt_tokens = 1, .served_tokens = 1});
  EXPECT_TRUE(r.steps.empty());
  const Result<TraceRecord> got = decode(*encode(r));
  ASSERT_TRUE(got) << got.status().to_string();
  EXPECT_EQ(got->rows(), 1);
}

// The bytes are a promise to files written earlier: a change of layout must change the version.
TEST(Record, LayoutIsAsDocumented) {
  const TraceRecord r = sample_record(5);
  const std::vector<std::byte> bytes = *encode(r);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), 4), "AUTR");
  uint16_t version = 0;
  uint32_t length = 0, crc = 0;
  uint64_t id = 0;
  std::memcpy(&version, &bytes[4], sizeof version);
  std::memcpy(&length, &bytes[8], sizeof length);
  std::memcpy(&crc, &bytes[12], sizeof crc);
  std::memcpy(&id, &bytes[16], sizeof id);
  EXPECT_EQ(version, 1);
  EXPECT_EQ(length, bytes.size() - 16);
  EXPECT_EQ(crc, crc32c(std::span(bytes).subspan(16)));
  EXPECT_EQ(id, r.id);
  const std::vector<std::byte> fixed =
      *encode(sample_record(1, {.prompt_tokens = 2, .served_tokens = 3, .hidden = 2, .law_k = 2}));
  EXPECT_EQ(fixed.size(), 392u);
}

TEST(Record, HeadNeedsTheBeginningOnly) {
  const TraceRecord r = sample_record(2, {.expires_ms = 99});
  const std::vector<std::byte> bytes = *encode(r);
  const Result<RecordHead> head = decode_head(std::span(bytes).first(64));
  ASSERT_TRUE(head);
  EXPECT_EQ(head->id, r.id);
  EXPECT_EQ(head->created_ms, r.created_ms);
  EXPECT_EQ(head->expires_ms, 99);
  EXPECT_EQ(head->served_tokens, r.served_tokens());
  EXPECT_EQ(head->record_bytes, bytes.size());
  for (size_t length = 0; length < 44; ++length) {
    EXPECT_EQ(decode_head(std::span(bytes).first(length)).status().code(), StatusCode::kTruncated);
  }
}

TEST(Record, EveryTruncationIsSeen) {
  std::vector<std::byte> bytes = *encode(sample_record(3));
  for (size_t length = 0; length < bytes.size(); ++length) {
    const Result<TraceRecord> got = decode(std::span(bytes).first(length));
    ASSERT_FALSE(got) << length;
    ASSERT_EQ(got.status().code(), StatusCode::kTruncated) << length;
  }
  bytes.push_back(std::byte{0});
  EXPECT_EQ(decode(bytes).status().code(), StatusCode::kCorrupt);
}

TEST(Record, EveryBitFlipIsSeen) {
  std::vector<std::byte> bytes = *encode(sample_record(4, {.hidden = 2}));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const std::byte mask{static_cast<uint8_t>(1 << bit % 8)};
    bytes[bit / 8] ^= mask;
    ASSERT_FALSE(decode(bytes)) << "bit " << bit;
    bytes[bit / 8] ^= mask;
  }
  EXPECT_TRUE(decode(bytes));
}

TEST(Record, AVersionOfTheFutureIsNamed) {
  std::vector<std::byte> bytes = *encode(sample_record(4));
  bytes[4] = std::byte{9};
  const Status status = decode(bytes).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalid);
  EXPECT_NE(status.message().find("version 9"), std::string::npos);
  EXPECT_EQ(decode_head(bytes).status().code(), StatusCode::kInvalid);
}

struct Breakage {
  const char* name;
  std::function<void(TraceRecord&)> apply;
};

TEST(Record, ValidateRefusesEachBrokenPromise) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const Breakage breakages[] = {
      {"no prompt", [](auto& r) { r.prompt_tokens = 0; }},
      {"no answer", [](auto& r) { r.prompt_tokens = static_cast<int32_t>(r.tokens.size()); }},
      {"negative token", [](auto& r) { r.tokens[0] = -1; }},
      {"least prompt", [](auto& r) { r.prompt_tokens = INT32_MIN; }},
      {"time", [](auto& r) { r.created_ms = -1; }},
      {"label", [](auto& r) { r.domain.assign(kLabelBytesMax + 1, 'x'); }},
      {"sampling", [](auto& r) { r.sampling.top_p = kNan; }},
      {"hidden", [](auto& r) { r.hidden = 0; }},
      {"tap type", [](auto& r) { r.tap_type = static_cast<TapType>(3); }},
      {"tap layer", [](auto& r) { r.tap_layers[1] = -1; }},
      {"taps", [](auto& r) { r.taps.pop_back(); }},
      {"refused taps", [](auto& r) { r.refused_taps.pop_back(); }},
      {"law rows", [](auto& r) { r.laws.ids.pop_back(), r.laws.logprobs.pop_back(); }},
      {"law k", [](auto& r) { r.laws.k = 0; }},
      {"law id", [](auto& r) { r.laws.ids[2] = -5; }},
      {"law above zero", [](auto& r) { r.laws.logprobs[0] = 0.1f; }},
      {"law rises", [](auto& r) { r.laws.logprobs[3] = 0.0f; }},
      {"law NaN", [](auto& r) { r.laws.logprobs[0] = kNan; }},
      {"law infinite", [](auto& r) { r.laws.logprobs[3] = -kInf; }},
      {"step in the prompt", [](auto& r) { r.steps[0].first = r.prompt_tokens - 1; }},
      {"step behind the end", [](auto& r) { r.steps[0].first = r.rows() + 1; }},
      {"step far behind the end", [](auto& r) { r.steps[0].first = INT32_MAX; }},
      {"accepted too many", [](auto& r) { r.steps[0].accepted = 4; }},
      {"accepted not served", [](auto& r) { r.steps[0].drafted[0] ^= 1; }},
      {"draft probs", [](auto& r) { r.steps[0].draft_probs.pop_back(); }},
      {"draft prob NaN", [](auto& r) { r.steps[0].draft_probs[1] = kNan; }},
      {"draft version", [](auto& r) { r.steps[0].draft_version = -1; }},
      {"refused step", [](auto& r) { r.refused[0].step = 100; }},
      {"refused step negative", [](auto& r) { r.refused[0].step = -1; }},
      {"refused position", [](auto& r) { r.refused[1].position += 1; }},
      {"refused token", [](auto& r) { r.refused[1].token += 1; }},
      {"refused order", [](auto& r) { std::swap(r.refused[0], r.refused[2]); }},
      {"refused laws", [](auto& r) { r.refused_laws = {}; }},
      {"target steps", [](auto& r) { r.target_steps = -1; }},
      {"a piece", [](auto& r) { r.cut_before = 3; }},
  };
  for (const Breakage& breakage : breakages) {
    TraceRecord r = sample_record(6);
    ASSERT_TRUE(validate(r));
    breakage.apply(r);
    EXPECT_EQ(validate(r).code(), StatusCode::kCorrupt) << breakage.name;
  }
}

// How long a record is, users decide: the format's four GiB, or what a buffer may hold, is a Status
// and no copy is made. 87k tokens of a target 8192 wide are more than the format can say.
TEST(Record, TooLargeIsAStatus) {
  for (const SampleOptions& options : {SampleOptions{}, SampleOptions{.served_tokens = 1},
                                       SampleOptions{.prompt_tokens = 300, .tenant = ""}}) {
    TraceRecord r = sample_record(9, options);
    EXPECT_EQ(encoded_bytes(r), encode(r)->size());
    r.rollout_of = 77;
    EXPECT_EQ(encoded_bytes(r), encode(r)->size());
    EXPECT_TRUE(encode(r, encoded_bytes(r)).is_ok());
    EXPECT_EQ(encode(r, encoded_bytes(r) - 1).status().code(), StatusCode::kFull);
  }
  EXPECT_EQ(kRecordBytesMax, (uint64_t{1} << 32) - 1 + kRecordHeaderBytes);
}

TEST(RecordDeathTest, EncodingABrokenRecordIsOurFault) {
  TraceRecord r = sample_record(6);
  r.taps.pop_back();
  EXPECT_DEATH((void)encode(r), "CHECK");
}

}  // namespace
}  // namespace aurora
