// What every TraceBuffer must do. An implementation instantiates it with a BufferEngine:
//   INSTANTIATE_TEST_SUITE_P(Lmdb, TraceBufferContract, testing::Values(lmdb_engine()));
// An append counts as done here when flush() says so. Three points are an engine's own matter and
// stand in its own tests: how many writers there may be, who removes what is old (`broker`: the
// broker does, by its own clock and without telling how many), and how a stored record breaks.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "base/clock.h"
#include "base/temp_dir.h"
#include "trace/sample_record.h"
#include "trace/trace_buffer.h"

namespace aurora {

using OpenBuffer =
    std::function<Result<std::unique_ptr<TraceBuffer>>(const TraceBufferOptions& options)>;

struct BufferEngine {
  std::string name;
  OpenBuffer open;
  // Stores one record of this tenant whose checksum does not fit. No buffer is open meanwhile.
  std::function<void(const TraceBufferOptions& options, const std::string& tenant)> append_broken;
  bool broker = false;
};

class TraceBufferContract : public testing::TestWithParam<BufferEngine> {
 protected:
  using Role = TraceBufferOptions::Role;
  static constexpr size_t kAll = 1000000;
  static constexpr size_t kAnyBytes = 1u << 30;
  static constexpr int64_t kWaitMs = 20000;

  TraceBufferOptions options(Role role = Role::kWriter, uint64_t bytes_max = 8u << 20) const {
    return {.dir = dir_.path() + "/buffer", .bytes_max = bytes_max, .role = role};
  }

  std::unique_ptr<TraceBuffer> open(Role role = Role::kWriter, uint64_t bytes_max = 8u << 20) {
    auto buffer = GetParam().open(options(role, bytes_max));
    if (!buffer) {
      ADD_FAILURE() << buffer.status().to_string();
      std::abort();  // every test would run into a null pointer
    }
    return std::move(*buffer);
  }

  // The sequence of the new record. One writer at a time.
  static uint64_t append(TraceBuffer& buffer, uint32_t seed, const SampleOptions& options = {}) {
    const Result<uint64_t> sequence = buffer.append(sample_record(seed, options));
    EXPECT_TRUE(sequence) << sequence.status().to_string();
    if (const Status status = buffer.flush(kWaitMs); !status) ADD_FAILURE() << status.to_string();
    if (!sequence) return 0;
    return *sequence != 0 ? *sequence : stats(buffer).last_sequence;
  }

  // Until `left` records are there. A broker looks at its clock, any other engine at `now_ms`.
  static void remove_expired(TraceBuffer& buffer, int64_t now_ms, uint64_t left) {
    ASSERT_TRUE(buffer.remove_expired(now_ms));
    const int64_t give_up_us = steady_us() + kWaitMs * 1000;
    while (GetParam().broker && stats(buffer).records != left && steady_us() < give_up_us) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    EXPECT_EQ(stats(buffer).records, left);
  }

  static std::vector<StoredRecord> read(TraceBuffer& buffer, uint64_t after = 0,
                                        size_t count = kAll, size_t bytes_max = kAnyBytes) {
    auto records = buffer.read(after, count, bytes_max);
    EXPECT_TRUE(records) << records.status().to_string();
    return records ? std::move(*records) : std::vector<StoredRecord>();
  }

  static TraceBufferStats stats(TraceBuffer& buffer) {
    const auto result = buffer.stats();
    EXPECT_TRUE(result) << result.status().to_string();
    return result ? *result : TraceBufferStats{};
  }

  TempDir dir_;
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TraceBufferContract);

TEST_P(TraceBufferContract, EmptyForBothRoles) {
  for (const Role role : {Role::kReader, Role::kWriter}) {
    auto buffer = open(role);
    EXPECT_TRUE(read(*buffer).empty());
    EXPECT_EQ(stats(*buffer).records, 0u);
    EXPECT_EQ(stats(*buffer).first_sequence, 0u);
    EXPECT_EQ(stats(*buffer).last_sequence, 0u);
    EXPECT_EQ(stats(*buffer).oldest_ms, 0);
  }
}

TEST_P(TraceBufferContract, KeepsOrderAndContent) {
  auto buffer = open();
  std::vector<uint64_t> sequences;
  for (uint32_t i = 0; i < 20; ++i) {
    sequences.push_back(append(*buffer, i, {.served_tokens = static_cast<int32_t>(1 + 7 * i)}));
  }
  EXPECT_GE(sequences[0], 1u);
  const auto records = read(*buffer);
  ASSERT_EQ(records.size(), 20u);
  for (uint32_t i = 0; i < 20; ++i) {
    EXPECT_EQ(records[i].sequence, sequences[i]);
    if (i > 0) {
      EXPECT_GT(sequences[i], sequences[i - 1]);
    }
    const TraceRecord expected =
        sample_record(i, {.served_tokens = static_cast<int32_t>(1 + 7 * i)});
    EXPECT_EQ(*encode(records[i].record), *encode(expected));
  }
  EXPECT_EQ(stats(*buffer).records, 20u);
  EXPECT_EQ(stats(*buffer).first_sequence, sequences[0]);
  EXPECT_EQ(stats(*buffer).last_sequence, sequences[19]);
  EXPECT_EQ(stats(*buffer).oldest_ms, GetParam().broker ? 0 : records[0].record.created_ms);
}

// However many pieces a record lies in, it is one that a reader has yet to read.
TEST_P(TraceBufferContract, RecordsAfterACursorAreCounted) {
  auto buffer = open(Role::kWriter, 64u << 20);
  EXPECT_EQ(*buffer->records_after(0), 0u);
  std::vector<uint64_t> sequences;
  for (uint32_t i = 0; i < 5; ++i) {
    const SampleOptions large{.served_tokens = 300, .hidden = 1024};
    sequences.push_back(append(*buffer, i, i % 2 ? large : SampleOptions{}));
  }
  EXPECT_EQ(*buffer->records_after(0), 5u);
  for (uint32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(*buffer->records_after(sequences[i]), 4u - i);
  }
  EXPECT_EQ(*buffer->records_after(sequences[4] + 100), 0u);
  const auto first = read(*buffer, 0, 2);
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(*buffer->records_after(first.back().sequence), 3u);
  ASSERT_EQ(read(*buffer, first.back().sequence, kAll, 1).size(), 1u);  // the bound of bytes
  EXPECT_EQ(*buffer->records_after(sequences[2]), 2u);
  ASSERT_EQ(read(*buffer, sequences[2]).size(), 2u);
  EXPECT_EQ(*buffer->records_after(sequences[4]), 0u);
}

TEST_P(TraceBufferContract, LargeRecord) {
  auto buffer = open();
  const SampleOptions options{.served_tokens = 300, .hidden = 1024};  // two MB
  const uint64_t sequence = append(*buffer, 1, options);
  const auto records = read(*buffer, sequence - 1);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].record.taps, sample_record(1, options).taps);
}

TEST_P(TraceBufferContract, ReadHonoursCountBytesAndStart) {
  auto buffer = open();
  std::vector<uint64_t> sequences;
  for (uint32_t i = 0; i < 10; ++i) sequences.push_back(append(*buffer, i));
  const size_t one = encode(sample_record(0))->size();
  EXPECT_EQ(read(*buffer, 0, 3).size(), 3u);
  EXPECT_EQ(read(*buffer, 0, 0).size(), 0u);
  EXPECT_EQ(read(*buffer, sequences[6]).size(), 3u);
  EXPECT_EQ(read(*buffer, sequences[6])[0].sequence, sequences[7]);
  EXPECT_TRUE(read(*buffer, sequences[9]).empty());
  EXPECT_TRUE(read(*buffer, UINT64_MAX).empty());
  EXPECT_EQ(read(*buffer, 0, kAll, 1).size(), 1u) << "one record, however small the bound";
  const size_t some = read(*buffer, 0, kAll, 4 * one).size();
  EXPECT_GE(some, 3u);
  EXPECT_LE(some, 5u);
}

TEST_P(TraceBufferContract, DropsOldestWithinItsBound) {
  const SampleOptions options{.served_tokens = 64, .hidden = 64};
  const size_t one = encode(sample_record(0, options))->size();
  const uint64_t bytes_max = 10 * one;
  auto buffer = open(Role::kWriter, bytes_max);
  uint64_t last = 0;
  for (uint32_t i = 0; i < 100; ++i) {
    last = append(*buffer, i, options);
    ASSERT_LE(stats(*buffer).bytes, bytes_max);
  }
  const auto records = read(*buffer);
  EXPECT_GE(records.size(), 8u);
  EXPECT_LE(records.size(), 10u);
  EXPECT_EQ(records.back().sequence, last);
  EXPECT_EQ(records.back().record.id, sample_record(99).id);
  EXPECT_EQ(stats(*buffer).records, records.size());
  EXPECT_EQ(stats(*buffer).first_sequence, records.front().sequence);
  if (!GetParam().broker) {
    EXPECT_EQ(stats(*buffer).dropped_oldest, 100 - records.size());
  }
}

TEST_P(TraceBufferContract, ARecordLargerThanTheBoundIsRefusedAlone) {
  auto buffer = open(Role::kWriter, 64u << 10);
  const uint64_t kept = append(*buffer, 1);
  const auto refused = buffer->append(sample_record(2, {.served_tokens = 100, .hidden = 1024}));
  EXPECT_EQ(refused.status().code(), StatusCode::kFull);
  EXPECT_EQ(buffer->record_bytes_max(), 64u << 10);
  ASSERT_EQ(read(*buffer).size(), 1u);
  EXPECT_EQ(read(*buffer)[0].sequence, kept);
}

TEST_P(TraceBufferContract, AnInvalidRecordIsRefusedWithoutDying) {
  auto buffer = open();
  TraceRecord record = sample_record(1);
  record.taps.pop_back();
  EXPECT_EQ(buffer->append(record).status().code(), StatusCode::kInvalid);
  EXPECT_TRUE(read(*buffer).empty());
}

TEST_P(TraceBufferContract, ExpiredRecordsAreSkippedThenRemoved) {
  auto buffer = open();
  const int64_t now_ms = unix_ms();
  const uint64_t never = append(*buffer, 1);
  append(*buffer, 2, {.expires_ms = now_ms - 1});
  const uint64_t later = append(*buffer, 3, {.expires_ms = now_ms + 3600000});
  const auto records = read(*buffer);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].sequence, never);
  EXPECT_EQ(records[1].sequence, later);

  remove_expired(*buffer, now_ms, 2);
  ASSERT_EQ(read(*buffer).size(), 2u);
  if (GetParam().broker) return;
  EXPECT_EQ(stats(*buffer).expired, 1u);
  remove_expired(*buffer, now_ms + 7200000, 1);
  ASSERT_EQ(read(*buffer).size(), 1u);
  EXPECT_EQ(read(*buffer)[0].sequence, never);
  EXPECT_EQ(stats(*buffer).expired, 2u);
}

TEST_P(TraceBufferContract, SequencesAreNeverUsedAgain) {
  uint64_t last = 0;
  for (int round = 0; round < 3; ++round) {
    auto buffer = open();
    const uint64_t next = append(*buffer, 1, {.expires_ms = 1});
    EXPECT_GT(next, last);
    last = next;
    remove_expired(*buffer, 2, 0);
    EXPECT_EQ(stats(*buffer).bytes, 0u);
    EXPECT_EQ(stats(*buffer).last_sequence, last);
  }
}

TEST_P(TraceBufferContract, ReopenFindsWhatWasAppended) {
  const uint64_t first = append(*open(), 1);
  auto buffer = open();
  const uint64_t second = append(*buffer, 2);
  const auto records = read(*buffer);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].sequence, first);
  EXPECT_EQ(records[1].sequence, second);
}

TEST_P(TraceBufferContract, ReopenWithASmallerBound) {
  const SampleOptions options{.served_tokens = 64, .hidden = 64};
  const size_t one = encode(sample_record(0, options))->size();
  {
    auto buffer = open(Role::kWriter, 40 * one);
    for (uint32_t i = 0; i < 30; ++i) append(*buffer, i, options);
  }
  auto buffer = open(Role::kWriter, 5 * one);
  append(*buffer, 99, options);
  EXPECT_LE(stats(*buffer).bytes, 5 * one);
  EXPECT_EQ(read(*buffer).back().record.id, sample_record(99).id);
}

TEST_P(TraceBufferContract, ABrokenRecordIsSkippedAndCountedOnce) {
  append(*open(), 1);
  GetParam().append_broken(options(), "the tenant whose record breaks");
  append(*open(), 3);
  auto buffer = open(Role::kReader);
  for (int pass = 0; pass < 2; ++pass) {
    const auto records = read(*buffer);
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].record.id, sample_record(1).id);
    EXPECT_EQ(records[1].record.id, sample_record(3).id);
  }
  EXPECT_EQ(stats(*buffer).corrupt, 1u);
  EXPECT_EQ(read(*buffer, 1, 1).size(), 1u) << "a batch of broken records is not the end";
}

TEST_P(TraceBufferContract, ReadersAndWriterAtOnce) {
  constexpr uint32_t kCount = 300;
  const SampleOptions options{.served_tokens = 32, .hidden = 32};
  const size_t one = encode(sample_record(0, options))->size();
  auto writer = open(Role::kWriter, 50 * one);
  std::atomic<bool> done = false;
  const auto follow = [&](TraceBuffer* buffer) {
    uint64_t after = 0;
    bool last_round = false;
    while (!last_round) {
      last_round = done;
      for (const StoredRecord& stored : read(*buffer, after, 7)) {
        EXPECT_GT(stored.sequence, after);
        after = stored.sequence;
        const uint32_t seed = static_cast<uint32_t>(stored.record.id >> 32);
        EXPECT_EQ(stored.record.taps, sample_record(seed, options).taps);
        last_round = false;
      }
    }
    EXPECT_EQ(after, stats(*buffer).last_sequence);
  };
  auto other = open(Role::kReader);
  std::thread a(follow, writer.get()), b(follow, other.get());
  for (uint32_t i = 0; i < kCount; ++i) append(*writer, i, options);
  done = true;
  a.join();
  b.join();
}

TEST_P(TraceBufferContract, AReaderCannotWrite) {
  auto reader = open(Role::kReader);
  EXPECT_EQ(reader->append(sample_record(1)).status().code(), StatusCode::kInvalid);
  EXPECT_EQ(reader->remove_expired(1).code(), StatusCode::kInvalid);
}

}  // namespace aurora
