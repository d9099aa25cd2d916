#pragma once

#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace candela {

/// The folders that would have to be made for `folder` to be there, the innermost first: what to take back
/// after a failure.
inline std::vector<std::filesystem::path> missing_folders(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> missing;
  std::error_code error;
  for (std::filesystem::path at = std::filesystem::absolute(folder).lexically_normal();
       !std::filesystem::exists(at, error) && at.has_relative_path(); at = at.parent_path()) {
    if (at.has_filename()) missing.push_back(at);
  }
  return missing;
}

// The C++ library's own iterator and remove_all() end the process where memory has run out.

/// The names in `folder`, in no order; empty with `error` set where it cannot be read.
std::vector<std::string> names_in(const std::filesystem::path& folder, std::error_code& error);

/// Removes `path` and all below it; links are removed, not followed. Allocates no more than a few folders'
/// streams. The first failure; none: it is gone.
std::error_code remove_tree(const std::filesystem::path& path) noexcept;

}  // namespace candela
