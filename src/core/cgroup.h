#pragma once

#include <filesystem>
#include <string_view>

namespace candela {

/// The CPUs' worth of time that control groups (cgroup v2) leave a process: the smallest quota / period of
/// `cpu.max` in its group and the groups above, or 0 if none sets a quota. `mount` is /sys/fs/cgroup;
/// `membership` the content of /proc/self/cgroup, whose line "0::/path" names the group.
double cgroup_cpu_quota(const std::filesystem::path& mount, std::string_view membership);

}  // namespace candela
