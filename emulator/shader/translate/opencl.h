#pragma once
// A preprocessed `.metal` file as C++ for OpenCL, whose compiler knows address spaces as types do.

#include <string>
#include <string_view>

namespace translate {

/// For a syntax check against ../opencl/metal_stdlib.h only: the result is not meant to run. Throws
/// SourceError.
std::string to_opencl(std::string_view preprocessed);

}  // namespace translate
