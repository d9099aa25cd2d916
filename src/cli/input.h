#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace candela::cli {

/// Bytes that standard input may hold: it has no size to look at first, and may never end.
inline constexpr std::size_t kMostInputBytes = std::size_t{256} << 20U;

/// Standard input to its end. IoError if it holds more than `most` bytes or cannot be read.
std::string read_standard_input(std::size_t most = kMostInputBytes);

/// The next line of standard input without its end, read by way of std::cin; nothing behind the last one.
/// IoError if it is longer than `most` bytes.
std::optional<std::string> read_input_line(std::size_t most = std::size_t{64} << 20U);

}  // namespace candela::cli
