#include "core/cgroup.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace candela {
namespace {

/// quota / period of one group; 0 where the file is absent or says "max".
double quota_of(const std::filesystem::path& folder) {
  std::ifstream file(folder / "cpu.max");
  double quota = 0;
  double period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return quota / period;
}

/// The path behind "0::" in /proc/self/cgroup; the root where there is none.
std::string group_of(std::string_view membership) {
  while (!membership.empty()) {
    const auto end = std::min(membership.find('\n'), membership.size());
    const std::string_view line = membership.substr(0, end);
    if (line.starts_with("0::/")) return std::string(line.substr(4));
    membership.remove_prefix(std::min(end + 1, membership.size()));
  }
  return {};
}

}  // namespace

double cgroup_cpu_quota(const std::filesystem::path& mount, std::string_view membership) {
  double smallest = quota_of(mount);
  std::filesystem::path folder = mount;
  for (const std::filesystem::path& part : std::filesystem::path(group_of(membership))) {
    folder /= part;
    const double quota = quota_of(folder);
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
  }
  return smallest;
}

}  // namespace candela
