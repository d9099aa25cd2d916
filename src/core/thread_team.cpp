#include "core/thread_team.h"

#if defined(_OPENMP)
#include <atomic>
#include <cstdlib>
#include <omp.h>
#else
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>
#endif

namespace candela {

#if defined(_OPENMP)

void run_on_team(int threads, int pieces, RangeFunction piece) {
  std::atomic<int> next{0};
#pragma omp parallel num_threads(threads)
  {
    for (int i = next.fetch_add(1); i < pieces; i = next.fetch_add(1)) piece(i, i + 1);
  }
}

bool inside_team() {
  return omp_in_parallel() != 0;
}

int team_size_from_environment() {
  // Before anything else sets it, OpenMP's own reading of the variable is the calling thread's maximum.
  static const int size = std::getenv("OMP_NUM_THREADS") == nullptr ? 0 : omp_get_max_threads();
  return size;
}

void announce_team_size(int size) {
  if (omp_get_max_threads() != size) omp_set_num_threads(size);
}

#else

namespace {

thread_local bool inside = false;

/// Where the compiler has no OpenMP (macOS without libomp, the thread sanitizer): threads that wait for
/// pieces.
class ThreadTeam {
 public:
  ThreadTeam() = default;
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;
  ~ThreadTeam() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  void run(int threads, int pieces, const RangeFunction& piece) {
    grow(threads - 1);
    {
      const std::lock_guard lock(mutex_);
      job_ = &piece;
      pieces_ = pieces;
      next_ = 0;
      ++round_;
    }
    wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return busy_ == 0; });
    job_ = nullptr;
  }

 private:
  void grow(int count) {
    while (static_cast<int>(workers_.size()) < count) {
      try {
        workers_.emplace_back([this] { serve(); });
      } catch (const std::system_error&) {
        return;  // the system grants no more: those that are there run all pieces
      }
    }
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (std::uint64_t seen = round_;;) {
      wake_.wait(lock, [&] { return stop_ || (round_ != seen && job_ != nullptr); });
      if (stop_) return;
      seen = round_;
      ++busy_;
      lock.unlock();
      work();
      lock.lock();
      if (--busy_ == 0) idle_.notify_one();
    }
  }

  /// Takes pieces until none is left.
  void work() {
    inside = true;
    for (;;) {
      const RangeFunction* job = nullptr;
      int mine = 0;
      {
        const std::lock_guard lock(mutex_);
        if (next_ >= pieces_) break;
        job = job_;
        mine = next_++;
      }
      (*job)(mine, mine + 1);
    }
    inside = false;
  }

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::vector<std::thread> workers_;
  const RangeFunction* job_ = nullptr;
  int pieces_ = 0, next_ = 0, busy_ = 0;
  std::uint64_t round_ = 0;
  bool stop_ = false;
};

}  // namespace

void run_on_team(int threads, int pieces, RangeFunction piece) {
  static ThreadTeam team;
  team.run(threads, pieces, piece);
}

bool inside_team() {
  return inside;
}

int team_size_from_environment() {
  // What OpenMP reads: the size of the team, then after a comma those of teams within it.
  const char* const text = std::getenv("OMP_NUM_THREADS");
  if (text == nullptr) return 0;
  char* end = nullptr;
  const long size = std::strtol(text, &end, 10);
  while (*end == ' ' || *end == '\t') ++end;
  const bool is_size = size > 0 && size < std::numeric_limits<int>::max() && (*end == '\0' || *end == ',');
  return is_size ? static_cast<int>(size) : 0;
}

void announce_team_size(int) {}

#endif

}  // namespace candela
