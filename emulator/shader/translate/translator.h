#pragma once
// A preprocessed `.metal` file to a C++ translation unit.

#include <cstdint>
#include <string>

#include "rewriter.h"

namespace translate {

struct SourceInfo {
  std::string file;  // as named to the build
  std::uint64_t hash = 0, flat_hash = 0;
};

/// Throws SourceError.
std::string translate(std::string_view preprocessed, const SourceInfo& info);

}  // namespace translate
