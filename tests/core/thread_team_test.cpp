#include "core/thread_team.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <candela/core/parallel.h>
#include <candela/core/process.h>
#include <candela/ops/copy.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>

#include "core/spin_budget.h"

#if defined(__linux__)
#include <fstream>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace candela {
namespace {

using namespace std::chrono_literals;

/// Runs a job of `pieces` and returns how often each was run.
std::vector<int> counts_of(ThreadTeam& team, int threads, int pieces, bool spins = true) {
  std::vector<std::atomic<int>> counts(static_cast<std::size_t>(pieces));
  const auto piece = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) ++counts[static_cast<std::size_t>(i)];
  };
  team.run(threads, pieces, spins, RangeFunction(piece));
  return {counts.begin(), counts.end()};
}

TEST(ThreadTeam, RunsEachPieceOnce) {
  const std::shared_ptr<ThreadTeam> team = ThreadTeam::start(4);
  ASSERT_EQ(team->size(), 4);
  EXPECT_EQ(team->refusal(), "");
  for (const bool spins : {true, false}) {
    for (int round = 0; round < 300; ++round) {
      const int pieces = 1 + round % 23;
      EXPECT_EQ(counts_of(*team, 1 + round % 4, pieces, spins),
                std::vector<int>(static_cast<std::size_t>(pieces), 1));
    }
  }
  team->retire();
}

/// Threads that have gone to sleep are woken, whatever the job's size was when they did.
TEST(ThreadTeam, WakesThreadsThatSleep) {
  const std::shared_ptr<ThreadTeam> team = ThreadTeam::start(6);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(5ms);
    std::mutex mutex;
    std::set<std::thread::id> ran;
    const auto piece = [&](std::int64_t, std::int64_t) {
      {
        const std::lock_guard lock(mutex);
        ran.insert(std::this_thread::get_id());
      }
      // Until all six are at work.
      for (int i = 0; i < 10000; ++i) {
        std::this_thread::sleep_for(1ms);
        const std::lock_guard lock(mutex);
        if (ran.size() == 6) break;
      }
    };
    team->run(6, 6, true, RangeFunction(piece));
    EXPECT_EQ(ran.size(), 6U);
  }
  team->retire();
}

/// A thread that does not get on with its share holds up no piece that it has not begun.
TEST(ThreadTeam, SharesOfSlowThreadsAreTaken) {
  const std::shared_ptr<ThreadTeam> team = ThreadTeam::start(2);
  std::atomic<int> ended{0};
  const auto piece = [&](std::int64_t i, std::int64_t) {
    // The second thread's first piece lasts until all others have been run.
    while (i == 4 && ended < 7) std::this_thread::sleep_for(1ms);
    ++ended;
  };
  team->run(2, 8, true, RangeFunction(piece));
  EXPECT_EQ(ended, 8);
  team->retire();
}

/// A signal handler of the host program runs on one of its own threads: a generated kernel that runs on the
/// team's keeps other values in the stack pointer.
TEST(ThreadTeam, LeavesSignalsFromOutsideToTheHost) {
  const std::shared_ptr<ThreadTeam> team = ThreadTeam::start(2);
  const auto blocks = [](int signal) {
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    return sigismember(&blocked, signal) == 1;
  };
  std::atomic<int> blocked{0}, passed{0}, ended{0};
  const auto caller = std::this_thread::get_id();
  const auto piece = [&](std::int64_t, std::int64_t) {
    ++ended;
    while (ended < 2) std::this_thread::yield();  // each of the two runs one
    if (std::this_thread::get_id() == caller) return;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGALRM}) blocked += blocks(signal) ? 1 : 0;
    for (const int signal : {SIGBUS, SIGSEGV, SIGPROF}) passed += blocks(signal) ? 0 : 1;
  };
  team->run(2, 2, true, RangeFunction(piece));
  EXPECT_EQ(blocked, 4);
  EXPECT_EQ(passed, 3);
  EXPECT_FALSE(blocks(SIGINT)) << "on the caller's thread";
  team->retire();
}

struct FakeClock {
  using rep = std::int64_t;
  using period = std::nano;
  using duration = std::chrono::nanoseconds;
  using time_point = std::chrono::time_point<FakeClock>;
  static inline std::int64_t now_ns = 0, step_ns = 1000;
  static time_point now() { return time_point(duration(now_ns += step_ns)); }
};

TEST(SpinBudget, SpinsShortlyForAWhileAfterAGap) {
  using Budget = SpinBudget<FakeClock>;
  FakeClock::now_ns = 1'000'000'000;
  Budget budget;
  const auto spent = [&](std::int64_t step_ns) {
    FakeClock::step_ns = step_ns;
    const std::int64_t start = FakeClock::now_ns;
    EXPECT_FALSE(budget.spin(true, [] { return false; }));
    return std::chrono::nanoseconds(FakeClock::now_ns - start);
  };
  EXPECT_GE(spent(1000), Budget::kLong);
  EXPECT_LT(spent(3'000'000), 7ms);  // given up at the first gap
  EXPECT_LT(spent(1000), 2 * Budget::kShort);
  FakeClock::now_ns += 20'000'000;
  EXPECT_GE(spent(1000), Budget::kLong);
  EXPECT_LT(spent(3'000'000), 7ms);  // soon again: twice as long
  FakeClock::now_ns += 30'000'000;
  EXPECT_LT(spent(1000), 2 * Budget::kShort);
  FakeClock::now_ns += 10'000'000;
  EXPECT_GE(spent(1000), Budget::kLong);
  EXPECT_EQ(FakeClock::step_ns, 1000);
}

TEST(SpinBudget, DoesNotSpinWhereItIsNotAllowed) {
  int looks = 0;
  EXPECT_FALSE(SpinBudget<>().spin(false, [&] { return ++looks > 1; }));
  EXPECT_EQ(looks, 1);
  EXPECT_TRUE(SpinBudget<>().spin(true, [&] { return ++looks > 3; }));
}

#if defined(__linux__)

std::ptrdiff_t threads_of_this_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

/// Products of every implementation, with all the threads that are set.
std::vector<float> some_products() {
  Generator generator(7);
  std::vector<float> results;
  for (const DType dtype : {DType::F32, DType::BF16}) {
    const Tensor a = normal({260, 300}, generator, 0, 1, dtype);
    const Tensor b = normal({300, 190}, generator, 0, 1, dtype);
    for (const Tensor& c :
         {matmul(a, b), matmul(slice(a, 0, 0, 4), b), matmul(transpose(b, 0, 1), transpose(a, 0, 1))}) {
      const std::vector<float> values = cast(c, DType::F32).to_vector<float>();
      results.insert(results.end(), values.begin(), values.end());
    }
  }
  return results;
}

/// In a process of its own, whose exit status tells whether `check` held.
template <class Check>
int status_of_child(Check&& check) {
  const pid_t child = fork();
  if (child == 0) _exit(check() ? 0 : 1);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

class TeamProcess : public testing::Test {
 protected:
  ~TeamProcess() override { set_thread_count(0); }
};

TEST_F(TeamProcess, AForkedChildHasATeamOfItsOwn) {
  set_thread_count(3);
  const std::vector<float> expected = some_products();
  EXPECT_EQ(status_of_child([&] {
              return threads_of_this_process() == 1 && some_products() == expected &&
                     threads_of_this_process() == 3;
            }),
            0);
  EXPECT_EQ(some_products(), expected);  // the parent's goes on
}

/// While another host thread is in the middle of its ops, and with the team in the forking thread's hands.
TEST_F(TeamProcess, AForkWaitsForTheOpThatRuns) {
  set_thread_count(2);
  std::atomic<bool> done{false};
  std::thread other([&] {
    while (!done) parallel_for(8, 1, [](std::int64_t, std::int64_t) { std::this_thread::sleep_for(100us); });
  });
  const auto works = [] {
    std::atomic<int> ran{0};
    parallel_for(8, 1, [&](std::int64_t, std::int64_t) { ++ran; });
    return ran == 8;
  };
  for (int i = 0; i < 20; ++i) EXPECT_EQ(status_of_child(works), 0);
  {
    const TeamLock lock;
    EXPECT_EQ(status_of_child(works), 0);
  }
  done = true;
  other.join();
}

#if !defined(CANDELA_TEST_SANITIZED)

/// The stacks of 64 threads find no room; some may.
TEST_F(TeamProcess, GoesOnWithTheThreadsThatItGets) {
  set_thread_count(64);
  Generator generator(7);
  const int status = status_of_child([] {
    std::ifstream file("/proc/self/statm");
    std::size_t pages = 0;
    file >> pages;
    const rlimit limit{pages * 4096 + (40U << 20U), RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit) != 0) return false;
    std::atomic<int> ran{0};
    parallel_for(640, 1, [&](std::int64_t begin, std::int64_t end) { ran += static_cast<int>(end - begin); });
    return ran == 640 && threads_of_this_process() < 64;
  });
  EXPECT_EQ(status, 0);
}

#endif

/// One team is all there is: none of the OpenMP runtime that oneDNN brings.
TEST_F(TeamProcess, TheVendorsLibraryStartsNoThreads) {
  set_thread_count(3);
  EXPECT_EQ(status_of_child([] {
              some_products();
              return threads_of_this_process() == 3;
            }),
            0);
}

#endif  // __linux__

#if defined(_OPENMP)

/// The host's parallel regions keep their threads, and ops inside them queue for the team.
TEST(HostOpenMP, HasItsOwnThreadsBesideTheTeam) {
  omp_set_num_threads(3);
  set_thread_count(2);
  const std::vector<float> expected = some_products();
  EXPECT_EQ(omp_get_max_threads(), 3);
  std::atomic<int> wrong{0};
  std::atomic<int> threads{0};
#pragma omp parallel
  {
    ++threads;
    if (in_parallel() || some_products() != expected) ++wrong;
    if (omp_get_max_threads() != 3) ++wrong;
  }
  EXPECT_EQ(threads, 3);
  EXPECT_EQ(wrong, 0);
  set_thread_count(0);
}

#endif

}  // namespace
}  // namespace candela
