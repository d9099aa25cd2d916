#pragma once

#include <cstdint>

#include <candela/core/storage.h>

/// A device for tests, as hard to the library as a GPU and harder: its memory cannot be touched by the host,
/// and its copies and kernels (those of the CPU) run as late as can be, on a thread of its own: when the host
/// waits. Outside such a wait the memory is mapped without access, so that a stray access ends the process.
namespace candela::test {

/// Since the process began.
struct LateCounters {
  /// blocking waits of the host
  std::uint64_t waits = 0;
  /// copies from the host
  std::uint64_t uploads = 0;
  /// copies to the host
  std::uint64_t reads = 0;
  /// enqueued, those of a replay included
  std::uint64_t kernels = 0;
};

/// The device, registered at the first call.
Device late_device();
LateCounters late_counters();
/// Copies and kernels that are enqueued and have not run.
std::uint64_t late_pending();

}  // namespace candela::test
