// What LMDB has to show beyond the contract: processes that die or stop, and files that are not
// ours.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/files.h"
#include "base/log.h"
#include "trace/lmdb_check.h"
#include "trace/lmdb_env.h"
#include "trace/trace_buffer_contract.h"

namespace aurora {
namespace {

// Flips a bit of the tenant's name in whatever file it lies. Older copies in free space are hit
// too.
void append_broken(const TraceBufferOptions& options, const std::string& tenant) {
  {
    auto buffer = open_lmdb_buffer(options);
    ASSERT_TRUE(buffer && (*buffer)->append(sample_record(2, {.tenant = tenant})));
  }
  int hits = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(options.dir)) {
    if (!entry.is_regular_file()) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)), {});
    for (size_t at = content.find(tenant); at != std::string::npos;
         at = content.find(tenant, at + 1)) {
      file.clear();
      file.seekp(static_cast<std::streamoff>(at));
      file.put(static_cast<char>(content[at] ^ 1));
      ++hits;
    }
  }
  ASSERT_GT(hits, 0);
}

INSTANTIATE_TEST_SUITE_P(Lmdb, TraceBufferContract,
                         testing::Values(BufferEngine{.name = "lmdb",
                                                      .open = open_lmdb_buffer,
                                                      .append_broken = append_broken}),
                         [](const auto& engine) { return engine.param.name; });

using Role = TraceBufferOptions::Role;
using std::chrono::milliseconds;

// A forked process that runs `body` and exits with 0 when it returns true. Killed at the latest
// with this object. Forking before this process opens a buffer keeps LMDB's rules.
class Child {
 public:
  explicit Child(const std::function<bool()>& body) : pid_(::fork()) {
    if (pid_ == 0) ::_exit(body() ? 0 : 1);
  }
  ~Child() { kill_and_wait(); }
  void signal(int number) const { ::kill(pid_, number); }
  void stop_and_wait() const {
    signal(SIGSTOP);
    ::waitpid(pid_, nullptr, WUNTRACED);
  }
  void kill_and_wait() {
    if (pid_ <= 0) return;
    signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  bool succeeded() {
    int state = 0;
    ::waitpid(pid_, &state, 0);
    pid_ = -1;
    return WIFEXITED(state) && WEXITSTATUS(state) == 0;
  }

 private:
  pid_t pid_;
};

class LmdbBuffer : public testing::Test {
 protected:
  Result<std::unique_ptr<TraceBuffer>> try_open(Role role, uint64_t bytes_max = 4u << 20) const {
    return open_lmdb_buffer({.dir = dir_ / "buffer", .bytes_max = bytes_max, .role = role});
  }
  std::unique_ptr<TraceBuffer> open(Role role, uint64_t bytes_max = 4u << 20) const {
    auto buffer = try_open(role, bytes_max);
    if (!buffer) {
      LOG_ERROR("test", "%s", buffer.status().to_string().c_str());
      std::abort();
    }
    return std::move(*buffer);
  }
  mode_t mode_of(const std::string& name) const {
    struct stat seen {};
    return ::stat((dir_ / name).c_str(), &seen) == 0 ? seen.st_mode & 0777 : 0;
  }
  TempDir dir_;
};

const SampleOptions kMedium{.served_tokens = 60, .hidden = 64};  // about 50 KB

TEST_F(LmdbBuffer, FilesAreForTheUserAlone) {
  const mode_t before = ::umask(0);
  EXPECT_TRUE(open(Role::kWriter)->append(sample_record(1)));
  ::umask(before);
  EXPECT_EQ(mode_of("buffer"), 0700u);
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "buffer")) {
    EXPECT_EQ(mode_of("buffer/" + entry.path().filename().string()), 0600u) << entry.path();
  }
}

// The child says through a pipe what append() returned to it; nothing of that may be missing later.
TEST_F(LmdbBuffer, KilledWriterLosesNothingThatAppendReturned) {
  std::mt19937 rng(3);
  uint64_t told = 0;
  for (int round = 0; round < 25; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    Child writer([&] {
      auto buffer = open(Role::kWriter);
      for (uint32_t i = 0; i < 100000; ++i) {
        const auto sequence = buffer->append(sample_record(i, kMedium));
        if (!sequence || ::write(ends[1], &*sequence, sizeof *sequence) < 0) return false;
      }
      return true;
    });
    ::close(ends[1]);
    uint64_t said = 0;
    ASSERT_EQ(::read(ends[0], &said, sizeof said), static_cast<ssize_t>(sizeof said));
    EXPECT_GT(said, told) << "a sequence was used again";
    std::this_thread::sleep_for(std::chrono::microseconds(rng() % 20000));
    writer.kill_and_wait();
    told = said;
    while (::read(ends[0], &said, sizeof said) == static_cast<ssize_t>(sizeof said)) told = said;
    ::close(ends[0]);

    auto reader = open(Role::kReader);
    const auto stats = reader->stats();
    ASSERT_TRUE(stats);
    EXPECT_GE(stats->last_sequence, told);
    const auto records = reader->read(0, 1000, 1u << 30);
    ASSERT_TRUE(records);
    EXPECT_EQ(records->size(), stats->records);
    ASSERT_FALSE(records->empty());
    EXPECT_EQ(records->back().sequence, stats->last_sequence);
    uint64_t bytes = 0;
    for (const StoredRecord& stored : *records) bytes += encode(stored.record)->size();
    EXPECT_EQ(bytes, stats->bytes);
    EXPECT_EQ(reader->stats()->corrupt, 0u);
    told = stats->last_sequence;
  }
}

// Stopped again and again at random instants, in whatever call it is: every append must come back
// soon. The appends of one stop fit into the reserve, as a reader that reads on would let them.
void appends_go_on_while_stopped(TraceBuffer& writer, Child& reader) {
  std::mt19937 rng(5);
  int64_t longest_us = 0;
  for (int round = 0; round < 40; ++round) {
    reader.signal(SIGCONT);
    std::this_thread::sleep_for(std::chrono::microseconds(500 + rng() % 3000));
    reader.stop_and_wait();
    for (uint32_t i = 0; i < 5; ++i) {
      const int64_t begin_us = steady_us();
      const auto sequence = writer.append(sample_record(i, kMedium));
      longest_us = std::max(longest_us, steady_us() - begin_us);
      ASSERT_TRUE(sequence) << sequence.status().to_string();
    }
  }
  EXPECT_LT(longest_us, 5000000) << "an append waited for the stopped process";
}

TEST_F(LmdbBuffer, ReaderStoppedInsideReadDoesNotStopAppends) {
  Child reader([&] {
    auto buffer = open(Role::kReader);
    for (;;) {
      if (!buffer->read(0, 1000, 1u << 30)) return false;
    }
  });
  auto writer = open(Role::kWriter);
  appends_go_on_while_stopped(*writer, reader);
}

TEST_F(LmdbBuffer, ReadersStoppedWhileOpeningDoNotStopAppends) {
  auto writer = open(Role::kWriter);
  std::mt19937 rng(7);
  for (int round = 0; round < 30; ++round) {
    Child reader([&] {
      for (;;) {
        if (!try_open(Role::kReader)) return false;
      }
    });
    std::this_thread::sleep_for(std::chrono::microseconds(rng() % 5000));
    reader.stop_and_wait();
    const int64_t begin_us = steady_us();
    ASSERT_TRUE(writer->append(sample_record(1, kMedium)));
    ASSERT_LT(steady_us() - begin_us, 5000000);
    reader.kill_and_wait();  // every other round leaves a dead reader in the table
  }
}

// The worst case of a stopped reader: it holds a snapshot while far more than bytes_max goes by.
// The reserve is used, then appends fail at once with kFull; when the reader dies, they go on.
TEST_F(LmdbBuffer, PinnedPagesUseTheReserveThenGiveFullThenRecover) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  Child reader([&] {
    auto buffer = open(Role::kReader);
    char byte = 1;
    if (::write(ends[1], &byte, 1) != 1) return false;
    for (;;) {
      if (!buffer->read(0, 1000, 1u << 30)) return false;
    }
  });
  char byte = 0;
  ASSERT_EQ(::read(ends[0], &byte, 1), 1);
  ::close(ends[0]);
  ::close(ends[1]);

  constexpr uint64_t kBytesMax = 8u << 20;
  auto writer = open(Role::kWriter, kBytesMax);
  const SampleOptions large{.served_tokens = 150, .hidden = 512};
  const size_t one = encode(sample_record(0, large))->size();
  bool full = false;
  for (int attempt = 0; attempt < 200 && !full;
       ++attempt) {  // until the stop falls into a snapshot
    reader.signal(SIGCONT);
    std::this_thread::sleep_for(milliseconds(5));
    reader.stop_and_wait();
    uint64_t appended = 0;
    for (uint32_t i = 0; i * one < 2 * kBytesMax + (80u << 20); ++i) {
      const auto sequence = writer->append(sample_record(i, large));
      if (!sequence) {
        ASSERT_EQ(sequence.status().code(), StatusCode::kFull) << sequence.status().to_string();
        full = true;
        break;
      }
      appended += one;
    }
    if (full) {
      EXPECT_GT(appended, kBytesMax);
    }
  }
  ASSERT_TRUE(full) << "no stop fell into a read";
  ASSERT_FALSE(writer->append(sample_record(1, large)));
  reader.kill_and_wait();
  for (uint32_t i = 0; i < 50; ++i) {
    const auto sequence = writer->append(sample_record(i, large));
    ASSERT_TRUE(sequence) << "the dead reader must be cleared: " << sequence.status().to_string();
  }
}

TEST_F(LmdbBuffer, FileStaysWithinTwoGenerations) {
  constexpr uint64_t kBytesMax = 2u << 20;
  auto writer = open(Role::kWriter, kBytesMax);
  std::mt19937 rng(9);
  for (uint32_t i = 0; i < 400; ++i) {
    const SampleOptions any{.served_tokens = static_cast<int32_t>(1 + rng() % 120), .hidden = 64};
    ASSERT_TRUE(writer->append(sample_record(i, any)));
  }
  EXPECT_LT(std::filesystem::file_size(dir_ / "buffer/traces"), 2 * kBytesMax);
}

TEST_F(LmdbBuffer, OneWriter) {
  auto first = open(Role::kWriter);
  const auto second = try_open(Role::kWriter);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(second.status().message().find("writer"), std::string::npos);
  ASSERT_TRUE(first->append(sample_record(1)));
  first.reset();
  ASSERT_TRUE(open(Role::kWriter)->append(sample_record(2)));
}

TEST_F(LmdbBuffer, WriterIsFreeAgainAfterItsDeath) {
  {
    Child writer([&] {
      auto buffer = open(Role::kWriter);
      ::pause();
      return true;
    });
    while (!std::filesystem::exists(dir_ / "buffer/traces")) {
      std::this_thread::sleep_for(milliseconds(1));
    }
    EXPECT_EQ(try_open(Role::kWriter).status().code(), StatusCode::kUnavailable);
  }
  EXPECT_TRUE(try_open(Role::kWriter));
}

TEST_F(LmdbBuffer, ForeignFilesAreNamedAndLeftAlone) {
  const std::string notes(10000, 'n');
  ASSERT_TRUE(make_dirs(dir_ / "buffer"));
  const std::string path = dir_ / "buffer/traces";
  for (const std::string& content : {notes, std::string("short")}) {
    ASSERT_TRUE(write_file_atomically(path, content));
    for (const Role role : {Role::kWriter, Role::kReader}) {
      const Status status = try_open(role).status();
      EXPECT_EQ(status.code(), StatusCode::kInvalid) << status.to_string();
      EXPECT_NE(status.message().find(path), std::string::npos) << status.to_string();
    }
    EXPECT_EQ(*read_file(path), content);
  }
}

TEST_F(LmdbBuffer, AnotherProgramsDatabaseIsRefused) {
  ASSERT_TRUE(make_dirs(dir_ / "buffer"));
  {
    const auto other = LmdbEnv::open(dir_ / "buffer/traces", 1 << 20, 0);
    ASSERT_TRUE(other) << other.status().to_string();
    LmdbWrite write(**other);
    MDB_val entry{5, const_cast<char*>("other")};
    ASSERT_EQ(mdb_put(write.txn(), (*other)->database(), &entry, &entry, 0), 0);
    ASSERT_TRUE(write.commit());
  }
  EXPECT_EQ(try_open(Role::kWriter).status().code(), StatusCode::kInvalid);
  EXPECT_EQ(try_open(Role::kReader).status().code(), StatusCode::kInvalid);
}

TEST_F(LmdbBuffer, AFileCutShortIsRefused) {
  {
    auto writer = open(Role::kWriter);
    for (uint32_t i = 0; i < 20; ++i) ASSERT_TRUE(writer->append(sample_record(i, kMedium)));
  }
  const std::string path = dir_ / "buffer/traces";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  for (const Role role : {Role::kWriter, Role::kReader}) {
    const Status status = try_open(role).status();
    EXPECT_EQ(status.code(), StatusCode::kCorrupt) << status.to_string();
    EXPECT_NE(status.message().find(path), std::string::npos);
  }
}

// Overwrites a part of a page of the file.
void spoil(const std::string& path, std::streamoff at, size_t count, std::mt19937& rng) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(at);
  for (size_t i = 0; i < count; ++i) file.put(static_cast<char>(rng()));
  ASSERT_TRUE(file.flush());
}

// Whichever page it is, whole or in part: refused at the opening, or found before it does harm, or
// no harm. LMDB by itself aborts, touches what is not mapped, or never comes back.
TEST_F(LmdbBuffer, NoDamagedPageHarmsTheWriter) {
  constexpr uint64_t kBytesMax = 300u << 10;
  {
    auto writer = open(Role::kWriter, kBytesMax);
    for (uint32_t i = 0; i < 40; ++i) ASSERT_TRUE(writer->append(sample_record(i, kMedium)));
  }
  const std::string path = dir_ / "buffer/traces";
  const std::string whole = *read_file(path);
  const auto pages = static_cast<std::streamoff>(whole.size() / 4096);
  std::mt19937 rng(5);
  int refused = 0, found = 0;
  for (std::streamoff page = 0; page < pages; ++page) {
    for (const size_t count : {size_t{4096}, size_t{1}, size_t{16}}) {
      const size_t from = count == 4096 ? 0 : rng() % (page < 2 ? 160 : page % 2 == 0 ? 64 : 4080);
      ASSERT_TRUE(write_file_atomically(path, whole));
      spoil(path, page * 4096 + static_cast<std::streamoff>(from), count, rng);
      // Exits with 0: worked on; 1: refused; 2: found later.
      const pid_t child = ::fork();
      if (child == 0) {
        ::alarm(60);
        auto writer = try_open(Role::kWriter, kBytesMax);
        if (!writer) ::_exit(writer.status().code() == StatusCode::kCorrupt || page < 2 ? 1 : 3);
        Status status = (*writer)->remove_expired(5);
        for (uint32_t i = 0; status && i < 8; ++i)
          status = (*writer)->append(sample_record(100 + i, kMedium)).status();
        ::_exit(status ? 0 : status.code() == StatusCode::kCorrupt ? 2 : 4);
      }
      int end = 0;
      ASSERT_EQ(::waitpid(child, &end, 0), child);
      ASSERT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) <= 2)
          << "page " << page << ", " << count << " bytes from " << from << ": " << end;
      refused += WEXITSTATUS(end) == 1;
      found += WEXITSTATUS(end) == 2;
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(found, pages / 2);  // most pages are records'
}

// The file's own sizes, flags and numbers, of which LMDB believes all. With the page size of 0 it
// divides.
TEST_F(LmdbBuffer, NoDamagedMetaPageHarmsTheWriter) {
  {
    auto writer = open(Role::kWriter);
    for (uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(writer->append(sample_record(i, kMedium)));
  }
  const std::string path = dir_ / "buffer/traces";
  const std::string whole = *read_file(path);
  for (const size_t page : {size_t{0}, size_t{1}}) {
    for (size_t field = 16; field < 152; field += 4) {
      for (const unsigned char value : {0x00, 0x04, 0xff}) {
        std::string spoilt = whole;
        std::fill_n(spoilt.begin() + static_cast<std::ptrdiff_t>(page * 4096 + field), 4,
                    static_cast<char>(value));
        ASSERT_TRUE(write_file_atomically(path, spoilt));
        const pid_t child = ::fork();
        if (child == 0) {
          ::alarm(60);
          auto writer = try_open(Role::kWriter);
          if (writer) (void)(*writer)->append(sample_record(9, kMedium));
          ::_exit(0);
        }
        int end = 0;
        ASSERT_EQ(::waitpid(child, &end, 0), child);
        ASSERT_TRUE(WIFEXITED(end)) << "page " << page << ", byte " << field << ", " << int{value};
      }
    }
  }
}

// A record of any size leaves, with pages that lie anywhere on the heap by then.
TEST_F(LmdbBuffer, ASoundFileIsNotCalledDamagedWhileRecordsLeave) {
  auto writer = open(Role::kWriter, 256u << 10);
  std::mt19937 rng(7);
  for (uint32_t i = 0; i < 6000; ++i) {
    const SampleOptions any{.served_tokens = static_cast<int32_t>(1 + rng() % 12), .hidden = 16};
    const auto appended = writer->append(sample_record(i, any));
    ASSERT_TRUE(appended) << i << ": " << appended.status().to_string();
  }
}

// Much that leaves at once makes lists of free pages that are longer than a page, and that LMDB
// shortens in place.
TEST_F(LmdbBuffer, ASoundFileIsNotCalledDamagedAfterMuchLeftAtOnce) {
  constexpr uint64_t kBytesMax = 64u << 20;
  auto writer = open(Role::kWriter, kBytesMax);
  const SampleOptions large{.served_tokens = 3000, .hidden = 1024, .expires_ms = 5000};
  for (uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(writer->append(sample_record(i, large)));
  ASSERT_TRUE(writer->remove_expired(1'000'000));
  std::mt19937 rng(54);
  for (uint32_t i = 0; i < 60; ++i) {
    const SampleOptions any{.served_tokens = static_cast<int32_t>(1 + rng() % 120), .hidden = 64};
    ASSERT_TRUE(writer->append(sample_record(i, any)));
    const Status sound = check_lmdb_file(dir_ / "buffer/traces");
    ASSERT_TRUE(sound.is_ok()) << i << ": " << sound.to_string();
  }
}

TEST_F(LmdbBuffer, AReaderOfAFileThatWasMovedAwaySaysSo) {
  auto writer = open(Role::kWriter);
  auto reader = open(Role::kReader);
  ASSERT_TRUE(writer->append(sample_record(1, kMedium)));
  EXPECT_EQ(reader->read(0, 10, 1 << 20)->size(), 1u);
  EXPECT_TRUE(reader->read(1, 10, 1 << 20)->empty());
  writer.reset();
  std::filesystem::rename(dir_ / "buffer", dir_ / "buffer.bad");
  EXPECT_EQ(reader->read(1, 10, 1 << 20).status().code(), StatusCode::kCorrupt);
}

TEST_F(LmdbBuffer, ReadOnlyDirectoryIsOneClearSentence) {
  ASSERT_TRUE(make_dirs(dir_ / "buffer"));
  ASSERT_EQ(::chmod((dir_ / "buffer").c_str(), 0555), 0);
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  Child visitor([&] {
    // Permissions do not hold for root.
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return false;
    for (const Role role : {Role::kWriter, Role::kReader}) {
      const Status status = try_open(role).status();
      if (status.code() != StatusCode::kIo) return false;
      if (status.message().find(dir_ / "buffer") == std::string::npos) return false;
    }
    return true;
  });
  EXPECT_TRUE(visitor.succeeded());
  ::chmod((dir_ / "buffer").c_str(), 0755);
}

// A limit on file size stands for the full disk: write(2) is refused in the same place.
TEST_F(LmdbBuffer, FullDiskIsAnErrorAndWhatWasThereStays) {
  Child writer([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    auto buffer = open(Role::kWriter, 64u << 20);
    const auto first = buffer->append(sample_record(1, kMedium));
    const rlimit small{.rlim_cur = 1u << 20, .rlim_max = RLIM_INFINITY};
    rlimit old{};
    ::getrlimit(RLIMIT_FSIZE, &old);
    ::setrlimit(RLIMIT_FSIZE, &small);
    int failed = 0;
    for (uint32_t i = 0; i < 60; ++i) {
      const auto sequence = buffer->append(sample_record(i, kMedium));
      if (!sequence && sequence.status().code() != StatusCode::kIo) return false;
      failed += !sequence;
    }
    if (failed < 20 || buffer->read(0, 1, 1)->front().sequence != *first) return false;
    ::setrlimit(RLIMIT_FSIZE, &old);  // room again: it goes on without being reopened
    const auto again = buffer->append(sample_record(7, kMedium));
    return again.is_ok() && *again == buffer->stats()->last_sequence;
  });
  EXPECT_TRUE(writer.succeeded());
}

}  // namespace
}  // namespace aurora
