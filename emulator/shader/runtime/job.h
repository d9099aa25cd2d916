#pragma once
// A launch as the OS threads that share it see it.

#include <atomic>

#include "execution.h"

namespace emulator {

class Job {
 public:
  Job(const Kernel& kernel_, std::span<const Binding> buffers_, std::span<const std::size_t> lengths,
      const FunctionConstants& constants_, const Grid& grid_, const Options& options_)
      : kernel(kernel_),
        buffers(buffers_),
        threadgroup_lengths(lengths),
        constants(constants_),
        grid(grid_),
        options(options_),
        group_count(grid_.threadgroups.count()) {}

  /// The number of a group that nobody has taken yet, or group_count.
  std::uint64_t take() {
    if (stopped.load(std::memory_order_relaxed)) return group_count;
    const std::uint64_t number = next_group.fetch_add(1, std::memory_order_relaxed);
    return number < group_count ? number : group_count;
  }

  const Kernel& kernel;
  std::span<const Binding> buffers;
  std::span<const std::size_t> threadgroup_lengths;
  const FunctionConstants& constants;
  const Grid& grid;
  Options options;
  std::uint64_t group_count;
  std::atomic<std::uint64_t> next_group{0};
  std::atomic<bool> stopped{false};
};

}  // namespace emulator
