#pragma once

#include <atomic>
#include <cstdint>

#include <candela/core/storage.h>

namespace candela::metal {

/// What the Metal device has done since it was made. All counts but for bytes.
struct Counters {
  /// command queues made
  std::uint64_t queues = 0;
  std::uint64_t command_buffers = 0;
  std::uint64_t commits = 0;
  /// times that a thread had to wait for the GPU, for any reason
  std::uint64_t waits = 0;
  /// of these, because too many command buffers were in flight
  std::uint64_t stalls = 0;
  /// command buffers that ended in an error
  std::uint64_t failures = 0;
  /// ops encoded
  std::uint64_t ops = 0;
  /// MPS kernel objects made
  std::uint64_t kernels_made = 0;
  /// ops served by a cached one
  std::uint64_t kernel_hits = 0;
  /// shaders specialised
  std::uint64_t pipelines_made = 0;
  std::uint64_t pipeline_hits = 0;
  /// operands whose layout no kernel takes, copied once
  std::uint64_t contiguous_copies = 0;
  std::uint64_t contiguous_bytes = 0;
  /// ops that ran on the CPU, on the unified memory
  std::uint64_t host_runs = 0;
  /// host memory that became a buffer without a copy
  std::uint64_t wrapped_bytes = 0;
};

/// The same, written by several threads.
struct AtomicCounters {
  std::atomic<std::uint64_t> queues{0}, command_buffers{0}, commits{0}, waits{0}, stalls{0}, failures{0},
      ops{0}, kernels_made{0}, kernel_hits{0}, pipelines_made{0}, pipeline_hits{0}, contiguous_copies{0},
      contiguous_bytes{0}, host_runs{0}, wrapped_bytes{0};

  Counters read() const {
    return {queues.load(),           command_buffers.load(), commits.load(),       waits.load(),
            stalls.load(),           failures.load(),        ops.load(),           kernels_made.load(),
            kernel_hits.load(),      pipelines_made.load(),  pipeline_hits.load(), contiguous_copies.load(),
            contiguous_bytes.load(), host_runs.load(),       wrapped_bytes.load()};
  }
};

/// The figures of a Metal device; throws DeviceError for others.
Counters counters(Device device);

}  // namespace candela::metal
