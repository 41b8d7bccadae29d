#include "train/recording.h"

#include <gtest/gtest.h>

#include "registry/temp_dir.h"
#include "train/toy_training.h"

namespace aurora {
namespace {

struct Written {
  uint64_t id;
  std::string domain;
  uint64_t rollout_of = 0;
};

void write(const std::string& dir, const std::vector<Written>& records) {
  auto buffer = open_lmdb_buffer({.dir = dir});
  ASSERT_TRUE(buffer.is_ok());
  for (const Written& written : records) {
    TraceRecord record = toy_record({.id = written.id});
    record.domain = written.domain;
    record.rollout_of = written.rollout_of;
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

TEST(Recording, RolloutsStandBehindTheirRequest) {
  TempDir dir;
  write(dir.path() + "/a",
        {{1, "code"}, {2, "math"}, {11, "code", 1}, {3, "code"}, {99, "code", 98}});
  write(dir.path() + "/b", {{12, "code", 1}, {31, "code", 3}});
  auto recording = Recording::open({dir.path() + "/a", dir.path() + "/b"});
  ASSERT_TRUE(recording.is_ok());
  EXPECT_EQ(ids_of(*(*recording)->next(0, 10, 1 << 20)),
            (std::vector<uint64_t>{1, 11, 12, 2, 3, 31}));
  ASSERT_TRUE((*recording)->sort_by_domain({"math", "code"}, 1).is_ok());
  EXPECT_EQ(ids_of(*(*recording)->next(0, 10, 1 << 20)), (std::vector<uint64_t>{2, 1, 11, 12}));
}

}  // namespace
}  // namespace aurora
