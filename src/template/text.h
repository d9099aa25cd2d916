#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Text as Python's `str` treats it: positions are code points, classes those of the Unicode database.
namespace candela::jinja {

std::size_t code_points(std::string_view text);
/// Byte offset of the code point at `index`; the size of `text` if there are fewer.
std::size_t byte_offset(std::string_view text, std::size_t index);
/// The code point that starts at `position`, which moves past it.
char32_t next_code_point(std::string_view text, std::size_t& position);
void append(std::string& out, char32_t code_point);
bool valid_utf8(std::string_view text);
std::vector<char32_t> decode(std::string_view text);
std::string encode(const std::vector<char32_t>& text);

bool is_space(char32_t c);
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_printable(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_title(char32_t c);
bool is_identifier(std::string_view text);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);
std::string swap_case(std::string_view text);

enum class Side { Left, Right, Both };
/// Without leading or trailing white space, or characters of `characters` if given.
std::string_view strip(std::string_view text, Side side, const std::string_view* characters = nullptr);
/// Parts between white space, at most `limit` cuts (-1: any); `from_right` cuts at the end first.
std::vector<std::string> split(std::string_view text, std::int64_t limit = -1, bool from_right = false);
/// Parts between occurrences of `separator`, which is not empty.
std::vector<std::string> split(std::string_view text, std::string_view separator, std::int64_t limit = -1,
                               bool from_right = false);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends = false);
/// The first `limit` occurrences (-1: all) of `from` replaced; IoError never, MemoryError above `max_bytes`.
std::string replace(std::string_view text, std::string_view from, std::string_view to, std::int64_t limit,
                    std::size_t max_bytes);
std::string escape_html(std::string_view text);
/// `text` filled up to `width` code points.
std::string pad(std::string_view text, std::size_t width, char align, std::string_view fill = " ");

}  // namespace candela::jinja
