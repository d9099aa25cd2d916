#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string_view>

namespace candela {

/// The CPUs' worth of time that control groups (cgroup v2) leave a process: the smallest quota / period of
/// `cpu.max` in its group and the groups above, or 0 if none sets a quota. `mount` is /sys/fs/cgroup;
/// `membership` the content of /proc/self/cgroup, whose line "0::/path" names the group.
double cgroup_cpu_quota(const std::filesystem::path& mount, std::string_view membership);

/// The bytes that control groups still allow a process: the smallest `memory.max` minus `memory.current` of
/// its group and the groups above, or nothing if none sets a limit. Cached pages of files are not counted as
/// used: the kernel drops them when there is need. Arguments as above.
std::optional<std::size_t> cgroup_memory_room(const std::filesystem::path& mount,
                                              std::string_view membership);

}  // namespace candela
