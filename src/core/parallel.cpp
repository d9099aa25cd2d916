#include <algorithm>
#include <exception>
#include <mutex>

#include <candela/core/parallel.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace candela {

#if defined(_OPENMP)

bool in_parallel() {
  return omp_in_parallel() != 0;
}

int thread_count() {
  return omp_get_max_threads();
}

void set_thread_count(int count) {
  omp_set_num_threads(count > 0 ? count : omp_get_num_procs());
}

void parallel_for(std::int64_t count, std::int64_t grain, RangeFunction body) {
  if (count <= 0) return;
  const std::int64_t useful =
      (count + std::max<std::int64_t>(grain, 1) - 1) / std::max<std::int64_t>(grain, 1);
  const int threads = static_cast<int>(std::min<std::int64_t>(useful, omp_get_max_threads()));
  if (threads <= 1 || omp_in_parallel() != 0) {
    body(0, count);
    return;
  }
  std::exception_ptr failure;
  std::mutex mutex;
#pragma omp parallel num_threads(threads)
  {
    // The runtime may grant fewer threads than asked for: split over what it gave.
    const std::int64_t granted = omp_get_num_threads();
    const std::int64_t index = omp_get_thread_num();
    try {
      const std::int64_t begin = count * index / granted;
      const std::int64_t end = count * (index + 1) / granted;
      if (begin < end) body(begin, end);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

#else

bool in_parallel() {
  return false;
}

int thread_count() {
  return 1;
}

void set_thread_count(int) {}

void parallel_for(std::int64_t count, std::int64_t, RangeFunction body) {
  if (count > 0) body(0, count);
}

#endif

}  // namespace candela
