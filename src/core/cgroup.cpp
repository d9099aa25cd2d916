#include "core/cgroup.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

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

/// The number in `file` of a group, or nothing where it is absent or says "max".
std::optional<std::size_t> bytes_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::size_t bytes = 0;
  if (!(file >> bytes)) return std::nullopt;
  return bytes;
}

/// The pages of files that a group holds and the kernel drops when the group needs room: both lists of
/// `memory.stat`, in bytes.
std::size_t page_cache_of(const std::filesystem::path& folder) {
  std::ifstream file(folder / "memory.stat");
  std::size_t total = 0;
  std::string key;
  for (std::size_t bytes = 0; file >> key >> bytes;) {
    if (key == "inactive_file" || key == "active_file") total += bytes;
  }
  return total;
}

/// What one group still allows; nothing where it sets no limit.
std::optional<std::size_t> memory_room_of(const std::filesystem::path& folder) {
  const std::optional<std::size_t> limit = bytes_in(folder / "memory.max");
  const std::optional<std::size_t> held = bytes_in(folder / "memory.current");
  if (!limit || !held) return std::nullopt;
  const std::size_t used = *held - std::min(*held, page_cache_of(folder));
  return *limit - std::min(*limit, used);
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

/// The folders of the process's group and of those above, from the mount down.
std::vector<std::filesystem::path> groups_of(const std::filesystem::path& mount,
                                             std::string_view membership) {
  std::vector<std::filesystem::path> folders = {mount};
  for (const std::filesystem::path& part : std::filesystem::path(group_of(membership)))
    folders.push_back(folders.back() / part);
  return folders;
}

}  // namespace

double cgroup_cpu_quota(const std::filesystem::path& mount, std::string_view membership) {
  double smallest = 0;
  for (const std::filesystem::path& folder : groups_of(mount, membership)) {
    const double quota = quota_of(folder);
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
  }
  return smallest;
}

std::optional<std::size_t> cgroup_memory_room(const std::filesystem::path& mount,
                                              std::string_view membership) {
  std::optional<std::size_t> smallest;
  for (const std::filesystem::path& folder : groups_of(mount, membership)) {
    const std::optional<std::size_t> room = memory_room_of(folder);
    if (room && (!smallest || *room < *smallest)) smallest = room;
  }
  return smallest;
}

}  // namespace candela
