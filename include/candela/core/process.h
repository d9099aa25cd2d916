#pragma once

#include <cstddef>

namespace candela {

/// Memory of this process as the operating system counts it, in bytes; 0 where it does not tell.
struct ProcessMemory {
  std::size_t resident = 0;
  std::size_t peak_resident = 0;
};
ProcessMemory process_memory();

/// Bytes of memory that a new allocation can count on, swap aside: on Linux what is available within the
/// container's limit, on macOS all that the machine has. 0 where the system does not tell.
std::size_t available_memory();

/// How many CPUs this process may keep busy: those of its affinity mask, within the quota of its control
/// group (cgroup v2), rounded up. At least 1.
int usable_cpus();

}  // namespace candela
