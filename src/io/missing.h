#pragma once

#include <cerrno>
#include <filesystem>
#include <fmt/format.h>
#include <string>
#include <system_error>

namespace candela::io {

/// Why open() failed with `error`, and what to do: the end of an error text.
inline std::string why_not_opened(int error) {
  const std::string reason = std::generic_category().message(error);
  if (error == ENOENT || error == ENOTDIR) return "no such file; check the path";
  if (error == EACCES || error == EPERM)
    return fmt::format("cannot be opened: {}; check the permissions of the file and of its folders", reason);
  return fmt::format("cannot be opened: {}", reason);
}

/// Whether there is something at `path`. `why`: the reason where nobody can tell, such as a folder that may
/// not be searched; else empty.
inline bool is_there(const std::filesystem::path& path, std::string& why) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  const bool absent = status.type() == std::filesystem::file_type::not_found;
  why = !error || absent ? "" : fmt::format("cannot be looked at: {}; check the path", error.message());
  return std::filesystem::exists(status);
}

}  // namespace candela::io
