#pragma once

#include <fmt/format.h>
#include <string>
#include <string_view>

namespace candela::cli {

/// Writes to standard output; throws IoError if it does not take all of it.
void write_output(std::string_view text);

/// The same, formatted.
template <class... Args>
void print_out(fmt::format_string<Args...> format, Args&&... args) {
  write_output(fmt::format(format, std::forward<Args>(args)...));
}

/// Brings to standard output what was written; throws IoError if it could not be.
void flush_output();

/// A line on standard error. That it may be closed ends nothing.
void write_error(std::string_view text);

/// `text`, which may quote files from anywhere, as it may go to a terminal: control characters but line
/// breaks and tabs as \xNN, and of a very long text its first 8192 bytes.
std::string printable(std::string_view text);

/// "candela: note: TEXT": what a person should know.
void note(std::string_view text);
/// "candela: warning: TEXT": what went wrong, though the run goes on.
void warn(std::string_view text);

}  // namespace candela::cli
