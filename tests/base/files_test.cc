#include "base/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/file_lock.h"
#include "base/mapped_file.h"
#include "base/temp_dir.h"

namespace aurora {
namespace {

mode_t mode_of(const std::string& path) {
  struct stat seen {};
  return ::stat(path.c_str(), &seen) == 0 ? seen.st_mode & 0777 : 0;
}

TEST(Files, WritesAndReplacesAsAWhole) {
  const TempDir dir;
  ASSERT_TRUE(write_file_atomically(dir / "a", "one"));
  ASSERT_TRUE(write_file_atomically(dir / "a", std::string("tw\0o", 4)));
  EXPECT_EQ(*read_file(dir / "a"), std::string("tw\0o", 4));
  EXPECT_EQ(mode_of(dir / "a"), 0600u);
  EXPECT_FALSE(std::filesystem::exists(dir / "a.tmp"));
}

TEST(Files, PartsLieOneBehindTheOtherAndAreMappedAsTheyWere) {
  const TempDir dir;
  const std::string_view parts[] = {"one", "", "two"};
  ASSERT_TRUE(write_file_atomically(dir / "a", parts));
  const auto mapped = MappedFile::open(dir / "a");
  ASSERT_TRUE(mapped);
  ASSERT_TRUE(write_file_atomically(dir / "a", "other"));
  const auto bytes = (*mapped)->bytes();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), "onetwo");
  ASSERT_TRUE(write_file_atomically(dir / "a", ""));
  EXPECT_TRUE((*MappedFile::open(dir / "a"))->bytes().empty());
  EXPECT_EQ(MappedFile::open(dir / "none").status().code(), StatusCode::kNotFound);
}

TEST(Files, AFailedWriteLeavesNothingAndNamesTheFile) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "taken");
  const Status status = write_file_atomically(dir / "taken", "x");
  EXPECT_EQ(status.code(), StatusCode::kIo);
  EXPECT_NE(status.message().find("taken"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(dir / "taken.tmp"));
  EXPECT_FALSE(write_file_atomically(dir / "none/x", "x"));
}

TEST(Files, RenameDurably) {
  const TempDir dir;
  ASSERT_TRUE(write_file_atomically(dir / "a", "x"));
  ASSERT_TRUE(rename_durably(dir / "a", dir / "b"));
  EXPECT_EQ(*read_file(dir / "b"), "x");
  EXPECT_EQ(rename_durably(dir / "a", dir / "b").code(), StatusCode::kNotFound);
}

TEST(Files, ReadHasABound) {
  const TempDir dir;
  ASSERT_TRUE(write_file_atomically(dir / "a", "12345"));
  EXPECT_TRUE(read_file(dir / "a", 5));
  EXPECT_EQ(read_file(dir / "a", 4).status().code(), StatusCode::kFull);
  EXPECT_EQ(read_file(dir / "none").status().code(), StatusCode::kNotFound);
}

TEST(Files, MakesDirectoriesForTheUserAlone) {
  const TempDir dir;
  ASSERT_TRUE(make_dirs(dir / "x/y/z"));
  ASSERT_TRUE(make_dirs(dir / "x/y/z/"));
  EXPECT_EQ(mode_of(dir / "x/y"), 0700u);
  ASSERT_TRUE(write_file_atomically(dir / "file", ""));
  EXPECT_EQ(make_dirs(dir / "file").code(), StatusCode::kIo);
  EXPECT_FALSE(make_dirs(dir / "file/below"));
  EXPECT_FALSE(make_dirs(""));
}

TEST(Files, WritesThroughNoLinkAndForItsUserAlone) {
  const TempDir dir;
  const mode_t before = ::umask(0);
  ASSERT_TRUE(write_file_atomically(dir / "victim", "mine"));
  std::filesystem::create_symlink(dir / "victim", dir / "file.tmp");
  ASSERT_TRUE(write_file_atomically(dir / "file", "new"));
  ::umask(before);
  EXPECT_EQ(*read_file(dir / "victim"), "mine");
  EXPECT_EQ(*read_file(dir / "file"), "new");
  EXPECT_EQ(mode_of(dir / "file"), 0600u);
}

TEST(Files, AFolderThatOthersMayWriteToIsNotOurs) {
  const TempDir dir;
  ASSERT_TRUE(make_dirs(dir / "own"));
  EXPECT_TRUE(check_own_dir(dir / "own"));
  for (const mode_t mode : {0770, 0703, 01777}) {
    ASSERT_EQ(::chmod((dir / "own").c_str(), mode), 0);
    const Status refused = check_own_dir(dir / "own");
    EXPECT_EQ(refused.code(), StatusCode::kInvalid);
    EXPECT_NE(refused.message().find("chmod go-w"), std::string::npos) << refused.message();
  }
  ASSERT_EQ(::chmod((dir / "own").c_str(), 0755), 0);
  EXPECT_TRUE(check_own_dir(dir / "own")) << "others may read: the files are 0600";
  EXPECT_EQ(check_own_dir(dir / "none").code(), StatusCode::kNotFound);
  if (::geteuid() != 0) return;  // only root gives files away
  ASSERT_EQ(::chown((dir / "own").c_str(), 65534, 65534), 0);
  EXPECT_NE(check_own_dir(dir / "own").message().find("another user"), std::string::npos);
}

TEST(FileLock, OneHolder) {
  const TempDir dir;
  {
    const Result<FileLock> first = FileLock::acquire(dir / "lock", 0);
    ASSERT_TRUE(first);
    EXPECT_EQ(FileLock::acquire(dir / "lock", 10).status().code(), StatusCode::kUnavailable);
  }
  EXPECT_TRUE(FileLock::acquire(dir / "lock", 0));
  EXPECT_EQ(FileLock::acquire(dir / "none/lock", 0).status().code(), StatusCode::kIo);
}

}  // namespace
}  // namespace aurora
