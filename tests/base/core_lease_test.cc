#include "base/core_lease.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/temp_dir.h"

namespace aurora {
namespace {

class CoreLease : public ::testing::Test {
 protected:
  ~CoreLease() override { remove_core_lease(dir_.path()); }
  CoreLender lender() {
    auto opened = CoreLender::open(dir_.path(), [this] { return now_us_; });
    CHECK(opened);
    return std::move(*opened);
  }
  CoreBorrower borrower() {
    auto opened = CoreBorrower::open(dir_.path(), [this] { return now_us_; });
    CHECK(opened);
    return std::move(*opened);
  }
  void pass(int64_t seconds) { now_us_ += seconds * 1'000'000; }

  const TempDir dir_;
  int64_t now_us_ = 5'000'000'000;
};

TEST_F(CoreLease, WithoutAServerAllCoresAreTheTrainers) {
  EXPECT_EQ(borrower().cores(), kAllCores);
}

TEST_F(CoreLease, WhatTheServerSaysIsHeard) {
  CoreLender server = lender();
  const CoreBorrower trainer = borrower();
  for (const int cores : {0, 1, 7, kAllCores, 0}) {
    server.publish(cores);
    EXPECT_EQ(trainer.cores(), cores);
  }
}

TEST_F(CoreLease, ASilentServerIsTakenForGone) {
  CoreLender server = lender();
  const CoreBorrower trainer = borrower();
  server.publish(0);
  pass(kLeaseSeconds);
  EXPECT_EQ(trainer.cores(), 0);
  pass(1);
  EXPECT_EQ(trainer.cores(), kAllCores);
}

// The clock begins anew with the machine; the page may be older where it is kept over a restart.
TEST_F(CoreLease, AWordFromTheFutureIsOld) {
  lender().publish(0);
  now_us_ = 7'000'000;
  EXPECT_EQ(borrower().cores(), kAllCores);
}

TEST_F(CoreLease, WhatIsNewGetsATrainerThatSpokeBeforeACore) {
  CoreLender server = lender();
  CoreBorrower trainer = borrower();
  trainer.want(false);
  pass(1);
  server.announce();
  EXPECT_TRUE(server.wanted());
  pass(1);
  trainer.want(false);  // it has looked
  EXPECT_FALSE(server.wanted());
  server.announce();
  pass(kLookSeconds);
  EXPECT_FALSE(server.wanted()) << "nobody is there";
}

TEST_F(CoreLease, ATrainerIsWantingOnlyWhileItHasWork) {
  CoreLender server = lender();
  EXPECT_FALSE(server.wanted());
  CoreBorrower trainer = borrower();
  EXPECT_FALSE(server.wanted());
  trainer.want(true);
  EXPECT_TRUE(server.wanted());
  trainer.want(false);
  EXPECT_FALSE(server.wanted());
  trainer.want(true);
  pass(kWishSeconds + 1);
  EXPECT_FALSE(server.wanted());
}

TEST_F(CoreLease, AWishEndsWithTheTrainer) {
  CoreLender server = lender();
  {
    CoreBorrower first = borrower();
    first.want(true);
    const CoreBorrower moved = std::move(first);
    EXPECT_TRUE(server.wanted());
  }
  EXPECT_FALSE(server.wanted());
}

// Killed: it cannot take its wish back, its parent does.
TEST_F(CoreLease, BetweenProcesses) {
  CoreLender server = lender();
  server.publish(3);
  const pid_t child = fork();
  if (child == 0) {
    CoreBorrower trainer = borrower();
    trainer.want(true);
    _exit(trainer.cores());
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  EXPECT_EQ(WEXITSTATUS(state), 3);
  EXPECT_TRUE(server.wanted());
  server.forget_wish();
  EXPECT_FALSE(server.wanted());
}

TEST_F(CoreLease, NoFolderNoLease) {
  EXPECT_EQ(CoreLender::open(dir_ / "none").status().code(), StatusCode::kIo);
}

TEST_F(CoreLease, APageOpenToOthersIsRefused) {
  (void)lender();
  struct stat dir {};
  ASSERT_EQ(::stat(dir_.path().c_str(), &dir), 0);
  const std::string name = "/aurora-" + std::to_string(geteuid()) + "-" +
                           std::to_string(dir.st_dev) + "-" + std::to_string(dir.st_ino);
  const int fd = ::shm_open(name.c_str(), O_RDWR, 0);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::fchmod(fd, 0666), 0);
  ::close(fd);
  EXPECT_EQ(CoreLender::open(dir_.path()).status().code(), StatusCode::kInvalid);
}

TEST_F(CoreLease, BothSidesAtOnce) {
  CoreLender server = lender();
  CoreBorrower trainer = borrower();
  std::atomic<bool> done{false};
  std::thread serving([&] {
    for (int i = 0; i < 20'000; ++i) {
      server.publish(i % 4);
      (void)server.wanted();
    }
    done = true;
  });
  for (bool work = false; !done; work = !work) {
    trainer.want(work);
    EXPECT_LT(trainer.cores(), 4);
  }
  serving.join();
  EXPECT_EQ(trainer.cores(), 19'999 % 4);
}

}  // namespace
}  // namespace aurora
