#include "core/thread_team.h"

#include <algorithm>
#include <csignal>
#include <system_error>
#include <thread>

namespace candela {
namespace {

thread_local bool runs_piece = false;

/// Added to the count of unfinished pieces by a caller that sleeps until it is zero.
constexpr std::int64_t kCallerSleeps = std::int64_t{1} << 32U;

constexpr std::uint64_t share_of(std::uint64_t begin, std::uint64_t end) {
  return begin < end ? begin << 32U | end : 0;
}

/// Takes a piece of `share`, the first or the last; -1 if there is none.
std::int64_t take_piece(std::atomic<std::uint64_t>& share, bool from_end) {
  std::uint64_t seen = share.load(std::memory_order_relaxed);
  while (seen != 0) {
    const std::uint64_t begin = seen >> 32U;
    const std::uint64_t end = seen & 0xffffffffU;
    const std::uint64_t left = from_end ? share_of(begin, end - 1) : share_of(begin + 1, end);
    // Acquires what the caller wrote before it dealt the share: the job. It is still this piece's job, for no
    // job ends before its pieces.
    if (share.compare_exchange_weak(seen, left, std::memory_order_acq_rel, std::memory_order_relaxed))
      return static_cast<std::int64_t>(from_end ? end - 1 : begin);
  }
  return -1;
}

/// While it lives, threads start with the signals from outside blocked: those are the host program's, and
/// oneDNN's generated kernels, which keep other values in the stack pointer, are not to be interrupted.
/// What an instruction raises, and a profiler's clock, pass.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int passed : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGPROF, SIGSEGV, SIGSYS, SIGTRAP}) {
      sigdelset(&blocked, passed);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, &before_);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

ThreadTeam::ThreadTeam(int size)
    : seats_(std::make_unique<Seat[]>(static_cast<std::size_t>(size))),
      sleepers_(std::make_unique<std::atomic<int>[]>(static_cast<std::size_t>(size))) {}

std::shared_ptr<ThreadTeam> ThreadTeam::start(int size) {
  std::shared_ptr<ThreadTeam> team(new ThreadTeam(std::max(size, 1)));
  int running = 1;
  const BlockedSignals blocked;
  try {
    // Detached: at the end of the program they sleep, and nothing waits for them.
    for (; running < size; ++running) std::thread([team, index = running] { team->serve(index); }).detach();
  } catch (const std::system_error& error) {
    team->refusal_ = error.code().message();
  }
  // Read by the threads once they have a share, which is dealt later.
  team->size_ = running;
  return team;
}

bool ThreadTeam::inside() {
  return runs_piece;
}

void ThreadTeam::retire() {
  for (int i = 1; i < size_; ++i) {
    seats_[static_cast<std::size_t>(i)].retired = true;
    wake(seats_[static_cast<std::size_t>(i)]);
  }
}

void ThreadTeam::run(int threads, int pieces, bool spins, const RangeFunction& piece) {
  if (spins_.load(std::memory_order_relaxed) != spins) spins_.store(spins, std::memory_order_relaxed);
  piece_ = &piece;
  unfinished_.store(pieces, std::memory_order_relaxed);
  deal(std::min({threads, size_, pieces}), pieces);
  runs_piece = true;
  work(0);
  runs_piece = false;
  wait_for_all();
}

/// All shares are zero here, and nobody writes to such a share but the caller: plain stores, whose way to the
/// other cores overlaps.
void ThreadTeam::deal(int threads, int pieces) {
  const auto bound = [&](int i) { return static_cast<std::uint64_t>(std::int64_t{pieces} * i / threads); };
  for (int i = 0; i < threads; ++i)
    seats_[static_cast<std::size_t>(i)].share.store(share_of(bound(i), bound(i + 1)),
                                                    std::memory_order_release);
  // Either a thread that goes to sleep sees its share, or it is seen to sleep here.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  sleeper_count_.store(0, std::memory_order_relaxed);
  int count = 0;
  for (int i = 1; i < threads; ++i) {
    if (seats_[static_cast<std::size_t>(i)].asleep.load(std::memory_order_relaxed))
      sleepers_[static_cast<std::size_t>(count++)].store(i, std::memory_order_relaxed);
  }
  if (count == 0) return;
  sleeper_count_.store(count, std::memory_order_release);
  wake_some();
}

/// Wakes two: each of them wakes two more, so that n threads are woken in the time of log n.
void ThreadTeam::wake_some() {
  for (int woken = 0; woken < 2; ++woken) {
    int count = sleeper_count_.load(std::memory_order_acquire);
    while (count > 0 && !sleeper_count_.compare_exchange_weak(count, count - 1, std::memory_order_acq_rel,
                                                              std::memory_order_acquire)) {
    }
    if (count <= 0) return;
    // Of the latest job, even if this is one's list from before: whoever is overlooked is seen by the next.
    wake(seats_[static_cast<std::size_t>(
        sleepers_[static_cast<std::size_t>(count - 1)].load(std::memory_order_relaxed))]);
  }
}

void ThreadTeam::wake(Seat& seat) {
  // Between its last look at the share and its sleep, the thread holds the mutex.
  { const std::lock_guard lock(seat.mutex); }
  seat.wake.notify_one();
}

void ThreadTeam::serve(int index) {
  runs_piece = true;
  Seat& seat = seats_[static_cast<std::size_t>(index)];
  SpinBudget<> budget;
  while (wait_for_share(seat, budget)) work(index);
}

/// Returns false once the team has retired.
bool ThreadTeam::wait_for_share(Seat& seat, SpinBudget<>& budget) {
  const auto called = [&seat] {
    return seat.share.load(std::memory_order_acquire) != 0 || seat.retired.load(std::memory_order_relaxed);
  };
  if (!budget.spin(spins_.load(std::memory_order_relaxed), called)) {
    std::unique_lock lock(seat.mutex);
    seat.asleep.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    seat.wake.wait(lock, called);
    seat.asleep.store(false, std::memory_order_relaxed);
    lock.unlock();
    wake_some();
  }
  return !seat.retired.load(std::memory_order_relaxed);
}

/// Its own share, then what others have not begun.
void ThreadTeam::work(int index) {
  int done = 0;
  for (Seat& own = seats_[static_cast<std::size_t>(index)]; run_own(own, false);) ++done;
  finish(done);
  for (int i = 1; i < size_; ++i) {
    Seat& other = seats_[static_cast<std::size_t>((index + i) % size_)];
    while (run_own(other, true)) finish(1);
  }
}

bool ThreadTeam::run_own(Seat& seat, bool from_end) {
  const std::int64_t piece = take_piece(seat.share, from_end);
  if (piece < 0) return false;
  (*piece_)(piece, piece + 1);
  return true;
}

void ThreadTeam::finish(int pieces) {
  if (pieces == 0) return;
  if (unfinished_.fetch_sub(pieces, std::memory_order_acq_rel) != kCallerSleeps + pieces) return;
  { const std::lock_guard lock(mutex_); }
  finished_.notify_one();
}

void ThreadTeam::wait_for_all() {
  const auto all = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (caller_budget_.spin(spins_.load(std::memory_order_relaxed), all)) return;
  std::unique_lock lock(mutex_);
  unfinished_.fetch_add(kCallerSleeps, std::memory_order_acq_rel);
  finished_.wait(lock, [this] { return unfinished_.load(std::memory_order_acquire) == kCallerSleeps; });
  unfinished_.store(0, std::memory_order_relaxed);
}

}  // namespace candela
