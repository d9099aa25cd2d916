#pragma once

#include <functional>

namespace candela::cli {

/// Seconds of one `call`: the median of repeated runs after two to warm up, at least 5 runs and about
/// `budget_s` seconds in all. `prepare` runs before each call and is not timed.
double median_seconds(const std::function<void()>& call, double budget_s = 0.5,
                      const std::function<void()>& prepare = {});

}  // namespace candela::cli
