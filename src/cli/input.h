#pragma once

#include <cstddef>
#include <string>

namespace candela::cli {

/// Bytes that standard input may hold: it has no size to look at first, and may never end.
inline constexpr std::size_t kMostInputBytes = std::size_t{256} << 20U;

/// Standard input to its end. IoError if it holds more than `most` bytes or cannot be read.
std::string read_standard_input(std::size_t most = kMostInputBytes);

}  // namespace candela::cli
