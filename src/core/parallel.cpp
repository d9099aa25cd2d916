#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include <candela/core/parallel.h>
#include <candela/core/process.h>

#include "core/thread_team.h"

namespace candela {
namespace {

std::atomic<int> wanted_threads{0};  // 0: the default

/// Which host thread has the team. Recursive: kernels take it, and parallel_for inside them again.
std::recursive_mutex& team_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

int default_thread_count() {
  static const int count = [] {
    const int asked = team_size_from_environment();
    return asked > 0 ? asked : usable_cpus();
  }();
  return count;
}

}  // namespace

int thread_count() {
  const int wanted = wanted_threads.load(std::memory_order_relaxed);
  return wanted > 0 ? wanted : default_thread_count();
}

void set_thread_count(int count) {
  default_thread_count();  // reads the environment before the number is announced to OpenMP
  wanted_threads.store(std::max(count, 0), std::memory_order_relaxed);
}

TeamLock::TeamLock() {
  // A body's thread works for the holder already: waiting for it would never end.
  if (inside_team()) return;
  team_mutex().lock();
  announce_team_size(thread_count());
}

TeamLock::~TeamLock() {
  if (!inside_team()) team_mutex().unlock();
}

void parallel_for(std::int64_t count, std::int64_t grain, RangeFunction body) {
  if (count <= 0) return;
  const std::int64_t step = std::max<std::int64_t>(grain, 1);
  const std::int64_t useful = count / step + (count % step != 0 ? 1 : 0);
  const auto pieces = static_cast<int>(std::min<std::int64_t>(useful, thread_count()));
  if (pieces <= 1 || inside_team()) {
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
  run_on_team(pieces, run_piece);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace candela
