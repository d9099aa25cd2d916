#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <mutex>
#include <pthread.h>

#include <candela/core/parallel.h>
#include <candela/core/process.h>

#include "core/thread_team.h"

namespace candela {
namespace {

std::atomic<int> wanted_threads{0};  // 0: the default

/// A lock that host threads take for one op after the other. A plain mutex would mostly go back to the thread
/// that just released it, and strictly taking turns would cost a switch of threads per op: so a thread may
/// take it again while nobody has waited for long, and hands it to one that has.
class TeamQueue {
 public:
  explicit TeamQueue(bool taken) : taken_(taken) {}

  void lock() {
    std::unique_lock guard(mutex_);
    if (taken_) {
      const std::uint64_t ticket = next_ticket_++;
      waiting_.push_back({ticket, Clock::now()});
      turn_.wait(guard,
                 [&] { return handed_to_ == ticket || (!taken_ && waiting_.front().ticket == ticket); });
      waiting_.pop_front();
      handed_to_ = kNobody;
    }
    taken_ = true;
  }

  void unlock() {
    const std::lock_guard guard(mutex_);
    // Handed over, it stays taken: for the thread that is about to wake up.
    taken_ = !waiting_.empty() && Clock::now() - waiting_.front().since >= kPatience;
    if (taken_) handed_to_ = waiting_.front().ticket;
    if (!waiting_.empty()) turn_.notify_all();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::uint64_t kNobody = ~std::uint64_t{0};
  static constexpr std::chrono::milliseconds kPatience{1};
  struct Waiter {
    std::uint64_t ticket;
    Clock::time_point since;
  };

  std::mutex mutex_;
  std::condition_variable turn_;
  std::deque<Waiter> waiting_;  // the longest first
  std::uint64_t next_ticket_ = 0;
  std::uint64_t handed_to_ = kNobody;
  bool taken_;
};

/// How often this thread has taken the team: kernels take it, and parallel_for inside them again.
thread_local int times_taken = 0;

/// The team of the process with the queue for it. A child of fork() has none of its threads: it gets a new
/// one, and what the old one holds stays as it is.
struct Team {
  std::unique_ptr<TeamQueue> queue = std::make_unique<TeamQueue>(false);
  std::shared_ptr<ThreadTeam> threads;
  /// size that `threads` were started for
  int asked = 0;

  Team() {
    // The queue is taken before a fork, so that no job of another host thread is under way.
    pthread_atfork(
        [] {
          if (!in_parallel() && times_taken == 0) team().queue->lock();
        },
        [] {
          if (!in_parallel() && times_taken == 0) team().queue->unlock();
        },
        [] { team().abandon(); });
  }
  static Team& team() {
    // Never destroyed: at the end of the program other host threads may still be at work.
    static Team& team = *new Team;
    return team;
  }

  /// Starts the threads, or more of them.
  void grow(int size) {
    constexpr int kMost = 4096;
    size = std::min(size, kMost);
    if (size <= asked) return;
    if (threads) threads->retire();
    threads = ThreadTeam::start(size);
    asked = size;
    if (threads->refusal().empty()) return;
    fmt::print(
        stderr,
        "candela: {} of {} threads could be started ({}), and ops run on those: use fewer threads, or raise "
        "the limits of processes and memory (ulimit -u, ulimit -v)\n",
        threads->size(), size, threads->refusal());
  }

 private:
  void abandon() {
    static_cast<void>(queue.release());
    queue = std::make_unique<TeamQueue>(times_taken > 0);
    // Its threads, which the child lacks, would have to let go of it.
    static_cast<void>(new std::shared_ptr<ThreadTeam>(std::move(threads)));
    threads = nullptr;
    asked = 0;
  }
};

/// What OMP_NUM_THREADS asks for: the size of the team, then after a comma those of teams within it. 0 if it
/// is absent or something else.
int team_size_from_environment() {
  const char* const text = std::getenv("OMP_NUM_THREADS");
  if (text == nullptr) return 0;
  char* end = nullptr;
  const long size = std::strtol(text, &end, 10);
  while (*end == ' ' || *end == '\t') ++end;
  const bool is_size = size > 0 && size < std::numeric_limits<int>::max() && (*end == '\0' || *end == ',');
  return is_size ? static_cast<int>(size) : 0;
}

/// The CPUs when the first op ran: reading them opens files.
int cpus() {
  static const int count = usable_cpus();
  return count;
}

int default_thread_count() {
  static const int count = [] {
    const int asked = team_size_from_environment();
    return asked > 0 ? asked : cpus();
  }();
  return count;
}

}  // namespace

bool in_parallel() {
  return ThreadTeam::inside();
}

int thread_count() {
  const int wanted = wanted_threads.load(std::memory_order_relaxed);
  return wanted > 0 ? wanted : default_thread_count();
}

void set_thread_count(int count) {
  wanted_threads.store(std::max(count, 0), std::memory_order_relaxed);
}

TeamLock::TeamLock() {
  // A body's thread works for the holder already: waiting for it would never end.
  if (in_parallel()) return;
  if (times_taken == 0) Team::team().queue->lock();
  ++times_taken;
}

TeamLock::~TeamLock() {
  if (in_parallel()) return;
  if (--times_taken == 0) Team::team().queue->unlock();
}

void parallel_for(std::int64_t count, std::int64_t grain, RangeFunction body) {
  if (count <= 0) return;
  const std::int64_t step = std::max<std::int64_t>(grain, 1);
  const std::int64_t useful = count / step + (count % step != 0 ? 1 : 0);
  // Several pieces for each thread: on a shared machine, and from a shared memory, not all run at the same
  // speed.
  constexpr std::int64_t kPiecesPerThread = 4;
  const int threads = static_cast<int>(std::min<std::int64_t>(useful, thread_count()));
  const auto pieces = static_cast<int>(std::min<std::int64_t>(useful, threads * kPiecesPerThread));
  if (threads <= 1 || in_parallel()) {
    body(0, count);
    return;
  }
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto run_piece = [&](std::int64_t piece, std::int64_t) {
    try {
      // count * piece would overflow for the largest counts.
      const std::int64_t size = count / pieces;
      const std::int64_t rest = count % pieces;
      const std::int64_t begin = size * piece + rest * piece / pieces;
      const std::int64_t end = size * (piece + 1) + rest * (piece + 1) / pieces;
      body(begin, end);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  const TeamLock lock;
  Team& team = Team::team();
  const int size = thread_count();
  team.grow(size);
  team.threads->run(threads, pieces, size <= cpus(), run_piece);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace candela
