#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <string>
#include <sys/resource.h>
#include <thread>

#include <candela/core/process.h>

#include "core/cgroup.h"

#if defined(__APPLE__)
#include <mach/mach.h>
#include <sys/sysctl.h>
#else
#include <sched.h>
#endif

namespace candela {
namespace {

#if !defined(__APPLE__)
/// The number after `key` in a file of "Key:  1234 kB" lines, in bytes; 0 if absent.
std::size_t read_kib(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size())) * 1024;
  }
  return 0;
}

constexpr const char* kCgroupMount = "/sys/fs/cgroup";

std::string cgroup_membership() {
  std::ifstream file("/proc/self/cgroup");
  return {std::istreambuf_iterator<char>(file), {}};
}
#endif

int machine_cpus() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

#if defined(__APPLE__)

ProcessMemory process_memory() {
  mach_task_basic_info_data_t info{};
  mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
  if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, reinterpret_cast<task_info_t>(&info), &count) !=
      KERN_SUCCESS)
    return {};
  return {static_cast<std::size_t>(info.resident_size), static_cast<std::size_t>(info.resident_size_max)};
}

std::size_t available_memory() {
  std::size_t total = 0;
  std::size_t length = sizeof(total);
  return sysctlbyname("hw.memsize", &total, &length, nullptr, 0) == 0 ? total : 0;
}

int usable_cpus() {
  return machine_cpus();
}

#else

ProcessMemory process_memory() {
  return {read_kib("/proc/self/status", "VmRSS:"), read_kib("/proc/self/status", "VmHWM:")};
}

std::size_t available_memory() {
  const std::size_t machine = read_kib("/proc/meminfo", "MemAvailable:");
  return std::min(machine, cgroup_memory_room(kCgroupMount, cgroup_membership()).value_or(machine));
}

int usable_cpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  // Fails on machines with more CPUs than the set has room for.
  const int count =
      sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : machine_cpus();
  const double quota = cgroup_cpu_quota(kCgroupMount, cgroup_membership());
  const int within = quota > 0 ? std::min(count, static_cast<int>(std::ceil(quota))) : count;
  return std::max(within, 1);
}

#endif

}  // namespace candela
