#pragma once

#include <filesystem>
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

}  // namespace candela
