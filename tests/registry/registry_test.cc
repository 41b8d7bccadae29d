#include "registry/registry.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <mutex>
#include <set>
#include <thread>

#include "base/sha256.h"
#include "registry/temp_dir.h"

namespace aurora {
namespace {

constexpr const char* kTarget = "0123456789abcdef";

DraftManifest of(const std::string& target) {
  DraftManifest manifest;
  manifest.target = target;
  return manifest;
}

class RegistryTest : public testing::Test {
 protected:
  RegistryTest() : registry_(open()) {}

  Registry open() const {
    Result<Registry> opened = Registry::open(dir_.file("drafts"));
    EXPECT_TRUE(opened) << opened.status().to_string();
    return *opened;
  }
  DraftManifest publish(const std::string& content, DraftManifest manifest = {}) {
    if (manifest.target.empty()) manifest.target = kTarget;
    dir_.write("drafts/stage.gguf.tmp", content);
    Result<DraftManifest> published = registry_.publish(registry_.stage_path(), manifest);
    EXPECT_TRUE(published) << published.status().to_string();
    return published ? *published : DraftManifest{};
  }
  int64_t newest(const std::string& target = kTarget) const {
    const auto found = registry_.newest(target);
    EXPECT_TRUE(found) << found.status().to_string();
    return found && *found ? (*found)->version : 0;
  }

  TempDir dir_;
  Registry registry_;
};

TEST_F(RegistryTest, EmptyHasNoNewest) {
  EXPECT_EQ(newest(), 0);
  EXPECT_TRUE(registry_.list()->empty());
  EXPECT_FALSE(registry_.verdict(1)->has_value());
}

TEST_F(RegistryTest, PublishFillsAndRoundTrips) {
  DraftManifest wanted;
  wanted.parent = 3;
  wanted.trained_tokens = 12345;
  wanted.replay_accept_len = 1.4375;
  wanted.replay_accept_len_in_service = std::nan("");
  wanted.reason = "better: \"1.44\" over 1.25 \xff";
  const DraftManifest made = publish("weights", wanted);
  EXPECT_EQ(made.version, 1);
  EXPECT_EQ(made.bytes, 7u);
  EXPECT_EQ(made.sha256, "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c");
  EXPECT_GT(made.created_ms, 1'600'000'000'000);
  EXPECT_FALSE(dir_.has("drafts/stage.gguf.tmp"));

  const auto all = registry_.list();
  ASSERT_EQ(all->size(), 1u);
  const DraftManifest& read = all->front();
  EXPECT_EQ(read.version, 1);
  EXPECT_EQ(read.parent, 3);
  EXPECT_EQ(read.created_ms, made.created_ms);
  EXPECT_EQ(read.target, kTarget);
  EXPECT_EQ(read.sha256, made.sha256);
  EXPECT_EQ(read.trained_tokens, 12345u);
  EXPECT_EQ(read.replay_accept_len, 1.4375);
  EXPECT_EQ(read.replay_accept_len_in_service, 0);
  EXPECT_EQ(read.reason.substr(0, 15), wanted.reason.substr(0, 15));
  EXPECT_TRUE(registry_.verify(read));
  struct stat seen {};
  ASSERT_EQ(::stat(dir_.file("drafts/draft-000001.json").c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 0777, 0600u);
}

TEST_F(RegistryTest, NewestHeedsTargetAndVerdict) {
  publish("a");
  publish("b", of("another"));
  publish("c");
  EXPECT_EQ(newest(), 3);
  EXPECT_EQ(newest("another"), 2);
  EXPECT_EQ(newest("unknown"), 0);
  ASSERT_TRUE(registry_.write_verdict({3, DraftVerdict::Kind::kServing, "in service", 0, 0}));
  EXPECT_EQ(newest(), 3);
  ASSERT_TRUE(registry_.write_verdict({3, DraftVerdict::Kind::kRolledBack, "worse", 1.2, 900}));
  EXPECT_EQ(newest(), 1);
  const auto verdict = registry_.verdict(3);
  ASSERT_TRUE(verdict && *verdict);
  EXPECT_EQ((*verdict)->kind, DraftVerdict::Kind::kRolledBack);
  EXPECT_EQ((*verdict)->reason, "worse");
  EXPECT_EQ((*verdict)->live_accept_len, 1.2);
  EXPECT_EQ((*verdict)->target_steps, 900u);
  ASSERT_TRUE(registry_.write_verdict({1, DraftVerdict::Kind::kRefused, "", 0, 0}));
  EXPECT_EQ(newest(), 0);
  EXPECT_EQ(registry_.write_verdict({}).code(), StatusCode::kInvalid);
}

TEST_F(RegistryTest, BrokenManifestsAreSkipped) {
  publish("a");
  const std::string good = dir_.read("drafts/draft-000001.json");
  const std::vector<std::string> broken = {"",
                                           "{",
                                           "[]",
                                           "null",
                                           std::string(100'000, '['),
                                           good.substr(0, good.size() / 2),
                                           "{\"format\": 99, \"version\": 2}",
                                           good /* names version 1 */,
                                           "\xff\xfe"};
  for (const std::string& text : broken) {
    dir_.write("drafts/draft-000002.json", text);
    dir_.write("drafts/draft-000002.gguf", "b");
    EXPECT_EQ(newest(), 1) << text.substr(0, 80);
    EXPECT_EQ(registry_.list()->size(), 1u);
  }
  EXPECT_EQ(publish("c").version, 3);
  EXPECT_EQ(newest(), 3);
}

TEST_F(RegistryTest, BrokenVerdictHidesItsVersion) {
  publish("a");
  publish("b");
  dir_.write("drafts/draft-000002.verdict.json", "{}");
  EXPECT_EQ(registry_.verdict(2).status().code(), StatusCode::kCorrupt);
  EXPECT_EQ(newest(), 1);
}

TEST_F(RegistryTest, LeftoversOfADeadPublisher) {
  publish("a");
  dir_.write("drafts/draft-000002.gguf", "died before the manifest");
  dir_.write("drafts/draft-000004.json.tmp", "{\"version\": 4");
  dir_.write("drafts/stage.gguf.tmp", "half a file");
  dir_.write("drafts/draft-9.json", "not our way to write a name");
  dir_.write("drafts/draft--3.json", "");
  const Registry again = open();
  EXPECT_EQ(again.newest(kTarget).value()->version, 1);
  EXPECT_TRUE(dir_.has("drafts/draft-000002.gguf"));
  EXPECT_EQ(publish("b").version, 10);
  EXPECT_EQ(registry_.list()->size(), 2u);
  ASSERT_TRUE(registry_.prune(5, {}));
  EXPECT_FALSE(dir_.has("drafts/draft-000002.gguf"));
}

TEST_F(RegistryTest, NumbersAreNotUsedAgainAfterPrune) {
  for (const char* content : {"a", "b", "c", "d"}) publish(content);
  publish("x", of("another"));
  ASSERT_TRUE(registry_.prune(1, {2}));
  EXPECT_FALSE(dir_.has("drafts/draft-000001.gguf"));
  EXPECT_TRUE(dir_.has("drafts/draft-000002.gguf"));
  EXPECT_FALSE(dir_.has("drafts/draft-000003.gguf"));
  EXPECT_TRUE(dir_.has("drafts/draft-000004.gguf"));
  EXPECT_TRUE(dir_.has("drafts/draft-000005.gguf"));
  EXPECT_EQ(registry_.list()->size(), 5u);
  ASSERT_TRUE(registry_.write_verdict({4, DraftVerdict::Kind::kRefused, "", 0, 0}));
  EXPECT_EQ(newest(), 2);  // 3 has no weights any more
  ASSERT_TRUE(registry_.prune(0, {}));
  EXPECT_EQ(newest(), 0);
  EXPECT_EQ(publish("e").version, 6);
}

// Who lists the folder reads every manifest in it: weeks of versions must not make that slow.
TEST_F(RegistryTest, OldManifestsAndVerdictsArePrunedToo) {
  for (int i = 1; i <= 20; ++i) publish("weights " + std::to_string(i));
  for (const int64_t version : {2, 3, 10, 19}) {
    DraftVerdict verdict;
    verdict.version = version;
    verdict.kind = DraftVerdict::Kind::kRolledBack;
    ASSERT_TRUE(registry_.write_verdict(verdict));
  }
  ASSERT_TRUE(registry_.prune(4, {2}, 8));
  std::vector<int64_t> left;
  const auto listed = registry_.list();
  for (const DraftManifest& one : *listed) left.push_back(one.version);
  EXPECT_EQ(left, (std::vector<int64_t>{2, 13, 14, 15, 16, 17, 18, 19, 20}));
  EXPECT_TRUE(dir_.has("drafts/draft-000002.gguf"));
  EXPECT_TRUE(registry_.verdict(2)->has_value());  // of a draft that is there
  EXPECT_FALSE(dir_.has("drafts/draft-000003.verdict.json"));
  EXPECT_FALSE(dir_.has("drafts/draft-000010.verdict.json"));
  EXPECT_TRUE(registry_.verdict(19)->has_value());
  EXPECT_EQ(newest(), 20);
  ASSERT_TRUE(registry_.prune(0, {}, 0));
  EXPECT_EQ(publish("next").version, 21);
}

TEST_F(RegistryTest, VerifyFindsTruncationAndBitFlips) {
  const std::string content(3 << 20, 'w');
  const DraftManifest made = publish(content);
  ASSERT_TRUE(registry_.verify(made));
  std::string flipped = content;
  flipped[2'000'001] ^= 1;
  dir_.write("drafts/draft-000001.gguf", flipped);
  Status status = registry_.verify(made);
  EXPECT_EQ(status.code(), StatusCode::kCorrupt);
  EXPECT_NE(status.message().find("draft-000001.gguf"), std::string::npos);
  EXPECT_NE(status.message().find(made.sha256), std::string::npos);
  dir_.write("drafts/draft-000001.gguf", content.substr(1));
  status = registry_.verify(made);
  EXPECT_EQ(status.code(), StatusCode::kCorrupt);
  EXPECT_NE(status.message().find("3145727"), std::string::npos);
  EXPECT_NE(status.message().find("3145728"), std::string::npos);
  std::filesystem::remove(registry_.gguf_path(1));
  EXPECT_EQ(registry_.verify(made).code(), StatusCode::kNotFound);
}

TEST_F(RegistryTest, ReadersWhilePublishing) {
  std::atomic<bool> done{false};
  std::atomic<int> bad{0};
  std::jthread reader([&] {
    const Registry own = open();
    int64_t last = 0;
    while (!done) {
      const auto found = own.newest(kTarget);
      if (!found || (*found && (*found)->version < last)) ++bad;
      if (!found || !*found) continue;
      last = (*found)->version;
      if (!own.verify(**found)) ++bad;
    }
  });
  for (int i = 1; i <= 30; ++i) EXPECT_EQ(publish(std::string(5000, 'a')).version, i);
  done = true;
  reader.join();
  EXPECT_EQ(bad, 0);
}

TEST_F(RegistryTest, TwoPublishersTakeTurns) {
  std::mutex mutex;
  std::set<int64_t> versions;
  const auto work = [&](const char* stage) {
    Registry own = open();
    for (int i = 0; i < 10; ++i) {
      dir_.write(std::string("drafts/") + stage, stage);
      const auto made = own.publish(own.dir() + "/" + stage, of(kTarget));
      const std::lock_guard guard(mutex);
      ASSERT_TRUE(made) << made.status().to_string();
      versions.insert(made->version);
    }
  };
  std::jthread one(work, "one.tmp");
  std::jthread two(work, "two.tmp");
  one.join();
  two.join();
  EXPECT_EQ(versions.size(), 20u);
  EXPECT_EQ(*versions.rbegin(), 20);
  const auto all = registry_.list();
  ASSERT_TRUE(all);
  for (const DraftManifest& made : *all) EXPECT_TRUE(registry_.verify(made));
}

TEST_F(RegistryTest, AHeldLockIsWaitedForWithABound) {
  const int fd = ::open(dir_.file("drafts/registry.lock").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  dir_.write("drafts/stage.gguf.tmp", "a");
  const auto made = registry_.publish(registry_.stage_path(), of(kTarget));
  EXPECT_EQ(made.status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(newest(), 0);  // a reader does not wait
  EXPECT_TRUE(dir_.has("drafts/stage.gguf.tmp"));
  ::close(fd);
  EXPECT_EQ(publish("a").version, 1);
}

TEST_F(RegistryTest, NothingToPublish) {
  EXPECT_EQ(registry_.publish(dir_.file("none"), {}).status().code(), StatusCode::kInvalid);
  dir_.write("drafts/stage.gguf.tmp", "");
  EXPECT_EQ(registry_.publish(registry_.stage_path(), {}).status().code(), StatusCode::kInvalid);
}

TEST_F(RegistryTest, ReadOnlyDirectoryStillReads) {
  publish("a");
  dir_.write("other.gguf", "b");
  const std::string drafts = dir_.file("drafts");
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  for (const auto& entry : std::filesystem::directory_iterator(drafts)) {
    ASSERT_EQ(::chmod(entry.path().c_str(), 0444), 0);
  }
  ASSERT_EQ(::chmod(drafts.c_str(), 0555), 0);
  const bool root = ::geteuid() == 0;  // to whom no directory is read-only
  if (root) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const Result<Registry> opened = Registry::open(drafts);
  ASSERT_TRUE(opened) << opened.status().to_string();
  Registry reader = *opened;
  EXPECT_EQ(reader.newest(kTarget).value()->version, 1);
  EXPECT_EQ(reader.publish(dir_.file("other.gguf"), {}).status().code(), StatusCode::kIo);
  EXPECT_EQ(reader.write_verdict({1, DraftVerdict::Kind::kServing, "", 0, 0}).code(),
            StatusCode::kIo);
  EXPECT_FALSE(Registry::open(dir_.file("elsewhere")));
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  ASSERT_EQ(::chmod(drafts.c_str(), 0755), 0);
  EXPECT_TRUE(dir_.has("other.gguf"));
}

TEST(Registry, AFileInTheWayIsRefused) {
  const TempDir dir;
  dir.write("drafts", "a file");
  EXPECT_EQ(Registry::open(dir.file("drafts")).status().code(), StatusCode::kIo);
}

TEST_F(RegistryTest, AdoptKeepsTheNumberOfWhoPublished) {
  dir_.write("drafts/in", "weights");
  DraftManifest manifest = of(kTarget);
  manifest.version = 57;
  manifest.bytes = 7;
  manifest.sha256 = std::string(64, '0');
  const std::string in = registry_.dir() + "/in";
  EXPECT_EQ(registry_.adopt(in, manifest).code(), StatusCode::kCorrupt);
  manifest.sha256 = *sha256_file(in);
  ASSERT_TRUE(registry_.adopt(in, manifest));
  EXPECT_EQ((*registry_.newest(kTarget))->version, 57);
  EXPECT_TRUE(registry_.verify(manifest));
  dir_.write("drafts/in", "weights");
  EXPECT_EQ(registry_.adopt(in, manifest).code(), StatusCode::kExists);
  manifest.version = 56;
  EXPECT_EQ(registry_.adopt(in, manifest).code(), StatusCode::kExists);
  EXPECT_EQ(publish("next").version, 58);

  // A number from which the next ones could not be counted, by a peer or in a file's name.
  manifest.version = INT64_MAX;
  EXPECT_EQ(registry_.adopt(in, manifest).code(), StatusCode::kInvalid);
  manifest.version = 58 + 1'000'000'001;
  EXPECT_EQ(registry_.adopt(in, manifest).code(), StatusCode::kInvalid);
  dir_.write("drafts/draft-9223372036854775807.json", "{}");
  EXPECT_EQ(publish("after").version, 59);
}

TEST_F(RegistryTest, APinnedVersionIsTheOneThatServesAndStays) {
  for (int i = 0; i < 4; ++i) publish("weights");
  EXPECT_EQ(*registry_.pinned(), 0);
  ASSERT_TRUE(registry_.pin(2));
  EXPECT_EQ(*open().pinned(), 2);
  EXPECT_EQ((*registry_.serving(kTarget))->version, 2);
  EXPECT_EQ(newest(), 4) << "a trainer goes on sending";
  ASSERT_TRUE(registry_.prune(1, {}));
  EXPECT_TRUE(registry_.verify((*registry_.list())[1])) << "it is still there";
  EXPECT_EQ(registry_.remove(2).code(), StatusCode::kInvalid);
  EXPECT_EQ(registry_.pin(1).code(), StatusCode::kNotFound) << "pruned";
  EXPECT_EQ(registry_.pin(9).code(), StatusCode::kNotFound);
  ASSERT_TRUE(registry_.unpin());
  ASSERT_TRUE(registry_.unpin());
  EXPECT_EQ((*registry_.serving(kTarget))->version, 4);
}

TEST_F(RegistryTest, WhatMayNotServeCannotBePinned) {
  publish("weights");
  DraftVerdict refused;
  refused.version = 1;
  refused.kind = DraftVerdict::Kind::kRefused;
  ASSERT_TRUE(registry_.write_verdict(refused));
  EXPECT_EQ(registry_.pin(1).code(), StatusCode::kInvalid);
  EXPECT_EQ(*registry_.pinned(), 0);
  dir_.write("drafts/pinned", "x");
  EXPECT_EQ(registry_.pinned().status().code(), StatusCode::kCorrupt);
}

TEST_F(RegistryTest, ARemovedVersionsNumberIsNotGivenAgain) {
  publish("weights");
  ASSERT_TRUE(registry_.remove(1));
  EXPECT_EQ(newest(), 0);
  EXPECT_EQ(registry_.remove(1).code(), StatusCode::kNotFound);
  EXPECT_EQ(publish("weights").version, 2);
}

}  // namespace
}  // namespace aurora
