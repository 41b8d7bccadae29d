#include "train/core_use.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/cpu_count.h"
#include "base/temp_dir.h"

namespace aurora {
namespace {

TEST(CoreUse, TakesWhatIsLentAndNeverLessThanOneThread) {
  const TempDir dir;
  auto server = CoreLender::open(dir.path());
  ASSERT_TRUE(server);
  int threads = 0;
  {
    CoreUse cores(dir.path(), 4, [&threads](int now) { threads = now; });
    cores.next_step(true);
    EXPECT_EQ(threads, 4);  // nobody serves
    EXPECT_TRUE(server->wanted());
    for (const auto& [lent, used] : {std::pair(0, 1), {1, 1}, {2, 2}, {9, 4}, {kAllCores, 4}}) {
      server->publish(lent);
      cores.next_step(false);
      EXPECT_EQ(threads, used);
      EXPECT_FALSE(server->wanted());
    }
    cores.next_step(true);
  }
  EXPECT_FALSE(server->wanted());  // it has left
  remove_core_lease(dir.path());
}

TEST(CoreUse, WithoutALeaseAllThreads) {
  int threads = 0;
  CoreUse cores("/nonexistent", 3, [&threads](int now) { threads = now; });
  cores.next_step(true);
  EXPECT_EQ(threads, 3);
}

TEST(CoreUse, RanksOfOneMachineShareItsCores) {
  ::unsetenv("LOCAL_WORLD_SIZE");
  EXPECT_EQ(threads_of_machine(), cores_allowed());
  ::setenv("LOCAL_WORLD_SIZE", "2", 1);
  EXPECT_EQ(threads_of_machine(), std::max(1, cores_allowed() / 2));
  ::setenv("LOCAL_WORLD_SIZE", "4096", 1);
  EXPECT_EQ(threads_of_machine(), 1);
  ::unsetenv("LOCAL_WORLD_SIZE");
}

}  // namespace
}  // namespace aurora
