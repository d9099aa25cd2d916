#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

/// The one team of threads that works on ops, the calling thread among them. All host threads share it, one
/// at a time, so that the machine is never oversubscribed. Libraries that multiply matrices are called on
/// single threads of it and start none of their own.
///
/// Waiting: a thread that waits spins for at most 0.3 ms and then sleeps. Where it notices that others want
/// its core (another program, a quota of its control group), or where thread_count() exceeds usable_cpus(),
/// it sleeps at once.
/// Threads that the system does not grant: the team goes on with those it has, with the same results, and
/// says so once on standard error.
/// fork(): waits for the op that runs. The child's team starts anew at its first op. A fork from inside a
/// body of parallel_for is for exec only.
/// OpenMP in the host program: its threads and settings are its own. Ops called from inside its parallel
/// regions queue for the team as ops of any host thread do.
namespace candela {

/// A non-owning reference to a callable `void(begin, end)`.
class RangeFunction {
 public:
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, RangeFunction>>>
  RangeFunction(F&& function)  // NOLINT(google-explicit-constructor): stands for the lambda at the call
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(function)))),
        call_([](void* object, std::int64_t begin, std::int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(object))(begin, end);
        }) {}
  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

/// Splits [0, count) into contiguous ranges of even length, a few per thread and at most count / grain,
/// rounded up, in all, and calls `body(begin, end)` on each. The split depends on count, grain and
/// thread_count() alone, whichever thread runs which, so results that depend on it repeat. A call from inside
/// a body runs as one range on the calling thread. Waits while another host thread has the team. An exception
/// of a body reaches the caller, once all bodies have ended.
void parallel_for(std::int64_t count, std::int64_t grain, RangeFunction body);

/// Whether the caller runs inside a body of parallel_for.
bool in_parallel();

/// How many threads work on an op: as set, or usable_cpus() (OMP_NUM_THREADS, where the environment has it).
int thread_count();
/// Sets it for all ops of the process, from now on; 0 goes back to the default.
void set_thread_count(int count);

/// Holds the team: other host threads wait for it at their next op. The thread that holds it may take it
/// again. Kernels run under one.
class TeamLock {
 public:
  TeamLock();
  ~TeamLock();
  TeamLock(const TeamLock&) = delete;
  TeamLock& operator=(const TeamLock&) = delete;
};

}  // namespace candela
