#pragma once

#include <algorithm>
#include <chrono>
#include <thread>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace candela {

/// One step of a loop that waits: leaves the core's units to its other hyper-thread.
inline void relax_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#else
  std::this_thread::yield();
#endif
}

/// How long one thread spins before it sleeps.
///
/// To wake a sleeping thread takes 5 to 50 us, as long as a small op: where cores are free, a thread spins
/// across the gaps between ops. Where another program or thread wants the core, spinning takes time from the
/// very thread that is waited for. A spinning thread notices that by a gap in its own clock: the system ran
/// something else meanwhile. It then hardly spins for a while, twice as long after each further gap.
template <class Clock = std::chrono::steady_clock>
class SpinBudget {
 public:
  using Time = typename Clock::time_point;
  using Duration = typename Clock::duration;

  /// With `free` cores: the gaps between the ops of a training step are shorter.
  static constexpr std::chrono::microseconds kLong{300};
  /// With shared cores: a job that ends at once is still met.
  static constexpr std::chrono::microseconds kShort{5};
  /// Between two readings of the clock: longer than an interrupt, shorter than a time slice.
  static constexpr std::chrono::microseconds kGap{150};
  /// How long cores count as shared after a gap: the first time, and at most.
  static constexpr std::chrono::milliseconds kFirstTruce{20};
  static constexpr std::chrono::milliseconds kLastTruce{1000};

  /// Spins until done() holds or the budget is spent, and returns done(). `allowed` is false where there are
  /// more threads than CPUs: then it does not spin.
  template <class Done>
  bool spin(bool allowed, Done&& done) {
    if (done()) return true;
    if (!allowed) return false;
    const Time start = Clock::now();
    const Duration most = limit(start);
    for (Time last = start;;) {
      for (int i = 0; i < kStepsPerReading; ++i) {
        relax_cpu();
        if (done()) return true;
      }
      const Time now = Clock::now();
      if (now - last > kGap) {
        note_gap(now);
        return done();
      }
      if (now - start >= most) return false;
      last = now;
    }
  }

  Duration limit(Time now) {
    if (now < shared_until_) return kShort;
    if (now - shared_until_ > truce_) truce_ = kFirstTruce;
    return kLong;
  }
  void note_gap(Time now) {
    shared_until_ = now + truce_;
    truce_ = std::min<Duration>(2 * truce_, kLastTruce);
  }

 private:
  static constexpr int kStepsPerReading = 8;
  Time shared_until_{};
  Duration truce_ = kFirstTruce;
};

}  // namespace candela
