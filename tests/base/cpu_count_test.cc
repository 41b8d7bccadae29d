#include "base/cpu_count.h"

#include <gtest/gtest.h>
#include <sched.h>

#include "base/files.h"
#include "base/temp_dir.h"

namespace aurora {
namespace {

void put(const TempDir& dir, const std::string& path, const std::string& text) {
  ASSERT_TRUE(make_dirs(parent_dir(dir / path)));
  ASSERT_TRUE(write_file_atomically(dir / path, text));
}

TEST(CpuCount, AQuotaIsRoundedUp) {
  const TempDir dir;
  put(dir, "pod/box/cpu.max", "150000 100000\n");
  EXPECT_EQ(cores_of_quota("0::/pod/box\n", dir.path()), 2);
  put(dir, "pod/box/cpu.max", "50000 100000\n");
  EXPECT_EQ(cores_of_quota("0::/pod/box\n", dir.path()), 1);
}

TEST(CpuCount, NoQuotaIsNone) {
  const TempDir dir;
  EXPECT_EQ(cores_of_quota("", dir.path()), 0);
  EXPECT_EQ(cores_of_quota("0::/pod/box\n", dir.path()), 0);
  put(dir, "pod/box/cpu.max", "max 100000\n");
  put(dir, "cpu/pod/cpu.cfs_quota_us", "-1\n");
  put(dir, "cpu/pod/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cores_of_quota("0::/pod/box\n4:cpu,cpuacct:/pod\n", dir.path()), 0);
  EXPECT_EQ(cores_of_quota("nonsense\n0::\n:::\n", dir.path()), 0);
}

TEST(CpuCount, TheGroupsAboveCountToo) {
  const TempDir dir;
  put(dir, "pod/box/cpu.max", "800000 100000\n");
  put(dir, "pod/cpu.max", "300000 100000\n");
  EXPECT_EQ(cores_of_quota("0::/pod/box\n", dir.path()), 3);
}

TEST(CpuCount, VersionOne) {
  const TempDir dir;
  put(dir, "cpu/docker/x/cpu.cfs_quota_us", "250000\n");
  put(dir, "cpu/docker/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cores_of_quota("5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n", dir.path()), 3);
}

// Without a name space of its own a container's path is not to be seen; its quota is at the root.
TEST(CpuCount, APathThatIsNotMountedHere) {
  const TempDir dir;
  put(dir, "cpu.max", "200000 100000\n");
  EXPECT_EQ(cores_of_quota("0::/elsewhere/box\n", dir.path()), 2);
}

TEST(CpuCount, AffinityIsFollowed) {
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  EXPECT_GE(cores_allowed(), 1);
  EXPECT_LE(cores_allowed(), CPU_COUNT(&all));
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_COUNT(&one) == 0 && CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(cores_allowed(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
}

}  // namespace
}  // namespace aurora
