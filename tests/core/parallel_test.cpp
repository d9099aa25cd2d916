#include <atomic>
#include <gtest/gtest.h>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include <candela/core/parallel.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>
#include <candela/ops/softmax.h>

namespace candela {
namespace {

using Ranges = std::set<std::pair<std::int64_t, std::int64_t>>;

Ranges ranges_of(std::int64_t count, std::int64_t grain) {
  Ranges ranges;
  std::mutex mutex;
  parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::lock_guard lock(mutex);
    EXPECT_TRUE(ranges.emplace(begin, end).second);
  });
  return ranges;
}

class Parallel : public testing::Test {
 protected:
  ~Parallel() override { set_thread_count(0); }
};

TEST_F(Parallel, TheSplitFollowsFromCountGrainAndThreads) {
  set_thread_count(2);
  EXPECT_EQ(ranges_of(20, 1),
            (Ranges{{0, 2}, {2, 5}, {5, 7}, {7, 10}, {10, 12}, {12, 15}, {15, 17}, {17, 20}}));
  EXPECT_EQ(ranges_of(10, 5), (Ranges{{0, 5}, {5, 10}}));
  EXPECT_EQ(ranges_of(10, 100), (Ranges{{0, 10}}));
  EXPECT_EQ(ranges_of(0, 1), Ranges{});
  set_thread_count(1);
  EXPECT_EQ(ranges_of(10, 1), (Ranges{{0, 10}}));
}

TEST_F(Parallel, TheSplitIsTheSameWhereTheTeamIsTaken) {
  set_thread_count(4);
  const Ranges alone = ranges_of(1000, 1);
  std::atomic<bool> inside{false};
  std::atomic<bool> done{false};
  std::thread other([&] {
    parallel_for(4, 1, [&](std::int64_t, std::int64_t) {
      inside = true;
      while (!done) std::this_thread::yield();
    });
  });
  while (!inside) std::this_thread::yield();
  std::thread release([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    done = true;
  });
  EXPECT_EQ(ranges_of(1000, 1), alone);
  release.join();
  other.join();
}

TEST_F(Parallel, CallsFromInsideABodyRunInOnePiece) {
  set_thread_count(2);
  parallel_for(2, 1, [&](std::int64_t, std::int64_t) { EXPECT_EQ(ranges_of(100, 1), (Ranges{{0, 100}})); });
}

TEST_F(Parallel, TheSettingHoldsForEveryHostThread) {
  set_thread_count(3);
  int seen = 0;
  std::thread([&] { seen = thread_count(); }).join();
  EXPECT_EQ(seen, 3);
  std::thread([] { set_thread_count(2); }).join();
  EXPECT_EQ(thread_count(), 2);
  EXPECT_EQ(ranges_of(100, 1).size(), 8U);
  set_thread_count(0);
  EXPECT_GE(thread_count(), 1);
}

TEST_F(Parallel, ExceptionsReachTheCallerAndTheTeamStaysUsable) {
  set_thread_count(4);
  for (int round = 0; round < 3; ++round) {
    EXPECT_THROW(parallel_for(4, 1,
                              [](std::int64_t begin, std::int64_t) {
                                if (begin == 2) throw std::runtime_error("body");
                              }),
                 std::runtime_error);
    EXPECT_EQ(ranges_of(4, 1).size(), 4U);
  }
}

TEST_F(Parallel, HostThreadsTogetherNeverUseMoreThreadsThanSet) {
  set_thread_count(2);
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  std::vector<std::thread> hosts;
  for (int host = 0; host < 4; ++host) {
    hosts.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        parallel_for(2, 1, [&](std::int64_t, std::int64_t) {
          const int now = ++running;
          int seen = most;
          while (now > seen && !most.compare_exchange_weak(seen, now)) {
          }
          std::this_thread::sleep_for(std::chrono::microseconds(100));
          --running;
        });
      }
    });
  }
  for (std::thread& host : hosts) host.join();
  EXPECT_LE(most, 2);
}

TEST_F(Parallel, AHostThreadThatWaitsIsServed) {
  set_thread_count(2);
  std::atomic<bool> done{false};
  std::vector<std::thread> busy;
  for (int host = 0; host < 3; ++host) {
    busy.emplace_back([&] {
      while (!done) {
        const TeamLock lock;  // released and taken again at once
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    const TeamLock outer;
    const TeamLock inner;
    EXPECT_EQ(ranges_of(2, 1).size(), 2U);
  }
  done = true;
  for (std::thread& host : busy) host.join();
}

TEST_F(Parallel, ResultsDoNotDependOnOtherHostThreads) {
  Generator generator(3);
  const Tensor a = normal({70, 300}, generator);
  const Tensor b = normal({300, 90}, generator);
  const std::vector<float> expected = softmax(matmul(a, b)).to_vector<float>();
  std::atomic<int> wrong{0};
  std::vector<std::thread> hosts;
  for (int host = 0; host < 4; ++host) {
    hosts.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        if (softmax(matmul(a, b)).to_vector<float>() != expected) ++wrong;
      }
    });
  }
  for (std::thread& host : hosts) host.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace candela
