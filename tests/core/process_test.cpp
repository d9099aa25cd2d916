#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <thread>

#include <candela/core/process.h>

#include "core/cgroup.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace candela {
namespace {

class Cgroup : public testing::Test {
 protected:
  std::filesystem::path mount;

  // A folder for each test: they run side by side.
  Cgroup()
      : mount(std::filesystem::path(testing::TempDir()) /
              (std::string("candela_cgroup_") +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(mount);
    std::filesystem::create_directories(mount / "a" / "b");
  }
  ~Cgroup() override { std::filesystem::remove_all(mount); }

  void limit(const std::filesystem::path& group, const std::string& text) const {
    std::ofstream(mount / group / "cpu.max") << text;
  }
  double quota(const std::string& membership) const { return cgroup_cpu_quota(mount, membership); }
  void memory(const std::filesystem::path& group, const std::string& most, const std::string& current,
              const std::string& stat) const {
    std::ofstream(mount / group / "memory.max") << most;
    std::ofstream(mount / group / "memory.current") << current;
    std::ofstream(mount / group / "memory.stat") << stat;
  }
  /// -1: no limit.
  long long room(const std::string& membership) const {
    const auto bytes = cgroup_memory_room(mount, membership);
    return bytes ? static_cast<long long>(*bytes) : -1;
  }
};

TEST_F(Cgroup, TheSmallestQuotaOnTheWayToTheRootCounts) {
  EXPECT_EQ(quota("0::/a/b\n"), 0);
  limit("a/b", "max 100000\n");
  EXPECT_EQ(quota("0::/a/b\n"), 0);
  limit("a", "250000 100000\n");
  EXPECT_EQ(quota("0::/a/b\n"), 2.5);
  limit("a/b", "300000 100000\n");
  EXPECT_EQ(quota("0::/a/b\n"), 2.5);
  limit("a/b", "50000 100000\n");
  EXPECT_EQ(quota("0::/a/b\n"), 0.5);
  EXPECT_EQ(quota("0::/a\n"), 2.5);
  EXPECT_EQ(quota("0::/\n"), 0);
}

TEST_F(Cgroup, InsideAContainerTheMountIsTheGroup) {
  limit(".", "150000 100000\n");
  EXPECT_EQ(quota("0::/\n"), 1.5);
  EXPECT_EQ(quota("12:cpu:/docker/x\n0::/a\n"), 1.5);
  EXPECT_EQ(quota("12:cpu:/docker/x\n"), 1.5);  // version 1 beside it
  EXPECT_EQ(quota(""), 1.5);
}

TEST_F(Cgroup, UnreadableLimitsAreNone) {
  for (const char* text : {"", "max", "x y", "-5 100000", "100000 0", "100000"}) {
    limit("a", text);
    EXPECT_EQ(quota("0::/a\n"), 0) << text;
  }
}

TEST_F(Cgroup, TheSmallestMemoryRoomOnTheWayToTheRootCounts) {
  EXPECT_EQ(room("0::/a/b\n"), -1);
  memory("a/b", "max\n", "500\n", "anon 500\n");
  EXPECT_EQ(room("0::/a/b\n"), -1);
  memory("a", "1000\n", "600\n", "anon 600\n");
  EXPECT_EQ(room("0::/a/b\n"), 400);
  memory("a/b", "700\n", "500\n", "anon 500\n");
  EXPECT_EQ(room("0::/a/b\n"), 200);
  EXPECT_EQ(room("0::/a\n"), 400);
  EXPECT_EQ(room("0::/\n"), -1);
  memory(".", "100\n", "300\n", "anon 300\n");  // the mount is the container's group
  EXPECT_EQ(room("0::/\n"), 0);
}

/// A container that has read a large file is full of pages that go when something needs the room.
TEST_F(Cgroup, CachedPagesOfFilesAreNotUsedMemory) {
  memory(
      "a", "1000\n", "950\n",
      "anon 100\nfile 800\nshmem 50\ninactive_anon 60\nactive_anon 90\ninactive_file 600\nactive_file 150\n"
      "slab 50\n");
  EXPECT_EQ(room("0::/a\n"), 800);
  memory("a", "1000\n", "950\n", "inactive_file 2000\n");  // read at another moment
  EXPECT_EQ(room("0::/a\n"), 1000);
  std::filesystem::remove(mount / "a" / "memory.stat");
  EXPECT_EQ(room("0::/a\n"), 50);
}

TEST(Process, SomeCpuCanBeUsed) {
  EXPECT_GE(usable_cpus(), 1);
}

#if defined(__linux__)
TEST(Process, TheAffinityMaskBoundsTheCpus) {
  int found = 0;
  std::thread([&] {
    cpu_set_t allowed;
    ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    int first = 0;
    while (!CPU_ISSET(first, &allowed)) ++first;
    CPU_ZERO(&allowed);
    CPU_SET(first, &allowed);
    ASSERT_EQ(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
    found = usable_cpus();
  }).join();
  EXPECT_EQ(found, 1);
}
#endif

}  // namespace
}  // namespace candela
