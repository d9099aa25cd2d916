#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include <candela/core/parallel.h>

#include "core/spin_budget.h"

namespace candela {

/// Threads that run the pieces of one job at a time, the thread that gives the job among them.
///
/// Each thread has a seat. A job of p pieces for n threads is dealt out in contiguous shares: seat i gets
/// pieces [i p / n, (i + 1) p / n), from job to job the same, so that a thread meets what it wrote last in
/// its caches. A thread that is through with its share takes single pieces from the ends of the others'. So a
/// thread that sleeps, or that the system does not run, holds up no piece that it has not begun.
///
/// The object lives as long as its last thread. A team that is to go is told so by retire().
class ThreadTeam : public std::enable_shared_from_this<ThreadTeam> {
 public:
  /// A team of `size` threads, the caller's among them, or of as many as the system grants: size() tells.
  static std::shared_ptr<ThreadTeam> start(int size);
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return size_; }
  /// Why there are fewer threads than asked for; empty if there are not.
  const std::string& refusal() const { return refusal_; }

  /// Calls piece(i, i + 1) for every i in [0, pieces), pieces < 2^31, on at most `threads` threads; returns
  /// when all have ended. `piece` must not throw. Threads that wait spin a while if `spins`: not where there
  /// are fewer CPUs than threads. One call at a time: the caller holds the TeamLock.
  void run(int threads, int pieces, bool spins, const RangeFunction& piece);

  /// Its threads end; no call of run() may follow.
  void retire();

  /// Whether the calling thread runs a piece.
  static bool inside();

 private:
  /// What one thread has still to do, and where it sleeps. The words that different threads write lie in
  /// cache lines of their own.
  struct Seat {
    /// pieces [begin, end): begin << 32 | end; 0: none
    alignas(64) std::atomic<std::uint64_t> share{0};
    alignas(64) std::atomic<bool> asleep{false};
    std::atomic<bool> retired{false};
    std::mutex mutex;
    std::condition_variable wake;
  };

  explicit ThreadTeam(int size);
  void serve(int index);
  bool wait_for_share(Seat& seat, SpinBudget<>& budget);
  void work(int index);
  bool run_own(Seat& seat, bool from_end);
  void finish(int pieces);
  void wait_for_all();
  void deal(int threads, int pieces);
  void wake_some();
  static void wake(Seat& seat);

  int size_ = 1;
  std::atomic<bool> spins_{true};
  std::string refusal_;
  std::unique_ptr<Seat[]> seats_;  // [size_]; the first is the caller's

  const RangeFunction* piece_ = nullptr;  // of the job that runs
  /// Pieces that have not ended, and kCallerSleeps.
  alignas(64) std::atomic<std::int64_t> unfinished_{0};
  std::mutex mutex_;
  std::condition_variable finished_;
  SpinBudget<> caller_budget_;

  /// Seats whose threads sleep though they have a share: woken by each other, two by two.
  std::unique_ptr<std::atomic<int>[]> sleepers_;
  alignas(64) std::atomic<int> sleeper_count_{0};
};

}  // namespace candela
