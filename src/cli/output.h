#pragma once

#include <fmt/format.h>
#include <string>
#include <string_view>

#include <candela/core/error.h>

namespace candela::cli {

/// Whoever read standard output has closed it: what is left to say has no reader.
class ReaderGone : public IoError {
 public:
  using IoError::IoError;
};

/// Writes to standard output; throws IoError if it does not take all of it, ReaderGone
/// if it is a pipe without a reader.
void write_output(std::string_view text);

/// Text that a model or a file made: escaped() on a terminal, elsewhere byte for byte.
void write_text(std::string_view text);

/// As write_output(), formatted.
template <class... Args>
void print_out(fmt::format_string<Args...> format, Args&&... args) {
  write_output(fmt::format(format, std::forward<Args>(args)...));
}

/// Brings to standard output what was written; throws IoError if it could not be.
void flush_output();

/// A line on standard error. That it may be closed ends nothing.
void write_error(std::string_view text);

/// `text`, which may come from anywhere, as it may go to a terminal. Control characters (C0 but line break
/// and tab, C1, DEL) and bytes that are not UTF-8 become \xNN; characters that reorder the text around them
/// (bidirectional marks, embeddings, overrides, isolates) and line separators become \u{NNNN}.
std::string escaped(std::string_view text);
/// As escaped(), with line breaks and tabs escaped too: a name in a table.
std::string escaped_name(std::string_view text);
/// As escaped(), and of a very long text its first 8192 bytes: what an error quotes.
std::string printable(std::string_view text);

/// "candela: note: TEXT": what a person should know.
void note(std::string_view text);
/// "candela: warning: TEXT": what went wrong, though the run goes on.
void warn(std::string_view text);

}  // namespace candela::cli
