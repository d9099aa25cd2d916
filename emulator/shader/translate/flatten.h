#pragma once
// Putting quoted includes in place, so that a shader's text stands alone: newLibraryWithSource knows no
// files.

#include <filesystem>
#include <string>
#include <vector>

namespace translate {

std::string read_text(const std::filesystem::path& path);

/// The text of `path` with every `#include "..."` replaced by that file's text, each file once. Includes are
/// looked for beside the file that names them, then in `folders`. Throws std::runtime_error naming the
/// include that is not found.
std::string flatten(const std::filesystem::path& path, const std::vector<std::filesystem::path>& folders);

}  // namespace translate
