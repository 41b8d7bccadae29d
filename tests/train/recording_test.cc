#include "train/recording.h"

#include <gtest/gtest.h>

#include "registry/temp_dir.h"
#include "train/toy_training.h"

namespace aurora {
namespace {

void write(const std::string& dir, const std::vector<std::pair<uint64_t, std::string>>& records) {
  auto buffer = open_lmdb_buffer({.dir = dir});
  ASSERT_TRUE(buffer.is_ok());
  for (const auto& [id, domain] : records) {
    TraceRecord record = toy_record({.id = id});
    record.domain = domain;
    ASSERT_TRUE((*buffer)->append(record).is_ok());
  }
}

std::vector<uint64_t> ids_of(const std::vector<StoredRecord>& records) {
  std::vector<uint64_t> ids;
  for (const StoredRecord& stored : records) ids.push_back(stored.record.id);
  return ids;
}

class RecordingTest : public testing::Test {
 protected:
  void SetUp() override {
    write(dir_.path() + "/a", {{1, "code"}, {2, "math"}, {3, "code"}});
    write(dir_.path() + "/b", {{4, "math"}, {5, "code"}});
    auto opened = Recording::open({dir_.path() + "/a", dir_.path() + "/b"});
    ASSERT_TRUE(opened.is_ok()) << opened.status().to_string();
    recording_ = std::move(*opened);
  }

  TempDir dir_;
  std::unique_ptr<Recording> recording_;
};

TEST_F(RecordingTest, OneBehindTheOtherUnderRisingNumbers) {
  std::vector<uint64_t> ids;
  uint64_t after = 0;
  for (;;) {
    auto some = recording_->next(after, 2, 1 << 20);
    ASSERT_TRUE(some.is_ok());
    if (some->empty()) break;
    for (const StoredRecord& stored : *some) {
      EXPECT_GT(stored.sequence, after);
      after = stored.sequence;
      ids.push_back(stored.record.id);
    }
  }
  EXPECT_EQ(ids, (std::vector<uint64_t>{1, 2, 3, 4, 5}));
}

TEST_F(RecordingTest, ReadShowsWhatIsReleased) {
  EXPECT_TRUE(recording_->read(0, 10, 1 << 20)->empty());
  recording_->release(2);
  EXPECT_EQ(ids_of(*recording_->read(0, 10, 1 << 20)), (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(recording_->stats()->last_sequence, 2u);
  EXPECT_FALSE(recording_->append(toy_record({})).is_ok());
}

TEST_F(RecordingTest, DomainsOneBehindTheOther) {
  ASSERT_TRUE(recording_->sort_by_domain({"math", "code"}, 2).is_ok());
  EXPECT_EQ(ids_of(*recording_->next(0, 10, 1 << 20)), (std::vector<uint64_t>{2, 4, 1, 3}));
  EXPECT_EQ(ids_of(*recording_->next(3, 10, 1 << 20)), (std::vector<uint64_t>{3}));
  const Status missing = recording_->sort_by_domain({"sql"}, 2);
  EXPECT_NE(missing.message().find("sql"), std::string::npos);
}

}  // namespace
}  // namespace aurora
