#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// UTF-8 and the few character classes that tokenizers use, as Rust's `char` methods define them.
namespace candela::io {

/// The code point that starts at `text[position]`, and the number of bytes it takes (1 to 4).
/// `text` must be valid UTF-8 and `position` the start of a character inside it.
struct CodePoint {
  std::int32_t value;
  std::uint32_t bytes;
};
CodePoint code_point_at(std::string_view text, std::size_t position);

void append_utf8(std::string& out, std::int32_t code_point);

/// The number of leading bytes of `text` that are whole, valid characters.
std::size_t valid_utf8_prefix(std::string_view text);
bool is_valid_utf8(std::string_view text);
bool is_ascii(std::string_view text);

/// `text` with each maximal invalid part replaced by U+FFFD, as Rust's `from_utf8_lossy` does.
std::string lossy_utf8(std::string_view text);

/// Unicode White_Space
bool is_whitespace(std::int32_t code_point);
/// general category N
bool is_numeric(std::int32_t code_point);
/// ASCII punctuation or general category P
bool is_punctuation(std::int32_t code_point);
/// general category M
bool is_mark(std::int32_t code_point);
/// general category Mn
bool is_nonspacing_mark(std::int32_t code_point);
/// general category Cc, Cf, Co or Cs
bool is_control(std::int32_t code_point);

/// The simple lower-case mapping of each character; U+0130 becomes i with a dot above, as in full case
/// mapping.
std::string to_lower(std::string_view text);

}  // namespace candela::io
