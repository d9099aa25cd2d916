#include "cli/timing.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace candela::cli {

double median_seconds(const std::function<void()>& call, double budget_s,
                      const std::function<void()>& prepare) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t kWarmUps = 2;
  constexpr std::size_t kLeast = 5;
  constexpr std::size_t kMost = 500;
  std::vector<double> times;
  double spent = 0;
  for (std::size_t i = 0; i < kWarmUps + kMost; ++i) {
    if (prepare) prepare();
    const auto start = Clock::now();
    call();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (i < kWarmUps) continue;
    times.push_back(seconds);
    spent += seconds;
    if (times.size() >= kLeast && spent > budget_s) break;
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace candela::cli
