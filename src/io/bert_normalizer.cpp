#include "io/bert_normalizer.h"

#include <algorithm>
#include <array>

#include "io/utf8.h"

namespace candela::io {
namespace {

bool is_cleaned_space(std::int32_t c) {
  return c == '\t' || c == '\n' || c == '\r' || is_whitespace(c);
}

bool is_cleaned_away(std::int32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  return c == 0 || c == 0xFFFD || is_control(c);
}

/// Extension E starts at U+2B820 in Unicode and at U+2B920 in the files' reference implementation.
bool is_ideograph(std::int32_t c) {
  struct Range {
    std::int32_t first, last;
  };
  constexpr std::array<Range, 7> kRanges = {{{0x3400, 0x4DBF},
                                             {0x4E00, 0x9FFF},
                                             {0xF900, 0xFAFF},
                                             {0x20000, 0x2A6DF},
                                             {0x2A700, 0x2B81F},
                                             {0x2B920, 0x2CEAF},
                                             {0x2F800, 0x2FA1F}}};
  return std::any_of(kRanges.begin(), kRanges.end(),
                     [c](const Range& range) { return c >= range.first && c <= range.last; });
}

/// Calls `write(character, bytes)` for each character of `text`.
template <class Write>
void for_each_character(const std::string& text, Write&& write) {
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    write(c.value, std::string_view(text).substr(i, c.bytes));
    i += c.bytes;
  }
}

}  // namespace

BertNormalizerOptions read_bert_normalizer_options(const JsonObject& description) {
  BertNormalizerOptions options;
  options.clean_text = description.boolean("clean_text", options.clean_text);
  options.handle_chinese_chars = description.boolean("handle_chinese_chars", options.handle_chinese_chars);
  options.lowercase = description.boolean("lowercase", options.lowercase);
  options.strip_accents = description.boolean("strip_accents", options.lowercase);
  return options;
}

std::string clean_text(const std::string& text) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](std::int32_t c, std::string_view bytes) {
    if (is_cleaned_away(c)) return;
    result += is_cleaned_space(c) ? std::string_view(" ") : bytes;
  });
  return result;
}

std::string space_ideographs(const std::string& text) {
  if (is_ascii(text)) return text;
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](std::int32_t c, std::string_view bytes) {
    const bool spaced = is_ideograph(c);
    if (spaced) result += ' ';
    result += bytes;
    if (spaced) result += ' ';
  });
  return result;
}

std::string strip_nonspacing_marks(const std::string& text) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](std::int32_t c, std::string_view bytes) {
    if (!is_nonspacing_mark(c)) result += bytes;
  });
  return result;
}

}  // namespace candela::io
