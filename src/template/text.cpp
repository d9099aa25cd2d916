#include "template/text.h"

#include <algorithm>
#include <utf8proc.h>

#include "template/value.h"

namespace candela::jinja {
namespace {

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

/// Characters whose upper case is more than one: SpecialCasing.txt, the unconditional ones in use.
std::string_view special_upper(char32_t c) {
  switch (c) {
    case 0xDF:
      return "SS";
    case 0x149:
      return "\xCA\xBCN";
    case 0x1F0:
      return "J\xCC\x8C";
    case 0xFB00:
      return "FF";
    case 0xFB01:
      return "FI";
    case 0xFB02:
      return "FL";
    case 0xFB03:
      return "FFI";
    case 0xFB04:
      return "FFL";
    case 0xFB05:
      return "ST";
    case 0xFB06:
      return "ST";
    default:
      return {};
  }
}

void append_upper(std::string& out, char32_t c) {
  const std::string_view special = special_upper(c);
  if (special.empty())
    append(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  else
    out += special;
}

void append_title(std::string& out, char32_t c) {
  const std::string_view special = special_upper(c);
  if (special.empty()) {
    append(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  } else {
    out += special.substr(0, 1);
    out += lower(special.substr(1));
  }
}

void append_lower(std::string& out, char32_t c) {
  if (c == 0x130)
    out += "i\xCC\x87";
  else
    append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

bool is_cased(char32_t c) {
  return is_upper(c) || is_lower(c) || is_title(c);
}

bool is_line_end(char32_t c) {
  return c == '\n' || c == '\r' || c == 0x0B || c == 0x0C || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
         c == 0x2028 || c == 0x2029;
}

/// Start of the code point that ends before `end`.
std::size_t previous_start(std::string_view text, std::size_t end) {
  do --end;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

}  // namespace

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::size_t byte_offset(std::string_view text, std::size_t index) {
  std::size_t position = 0;
  while (position < text.size() && index > 0) {
    next_code_point(text, position);
    --index;
  }
  return position;
}

char32_t next_code_point(std::string_view text, std::size_t& position) {
  const auto byte = [&](std::size_t i) -> char32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0x80;
  };
  const char32_t first = byte(position);
  if (first < 0x80) {
    ++position;
    return first;
  }
  if (first < 0xE0) {
    const char32_t c = (first & 0x1F) << 6 | (byte(position + 1) & 0x3F);
    position += 2;
    return c;
  }
  if (first < 0xF0) {
    const char32_t c = (first & 0x0F) << 12 | (byte(position + 1) & 0x3F) << 6 | (byte(position + 2) & 0x3F);
    position += 3;
    return c;
  }
  const char32_t c = (first & 0x07) << 18 | (byte(position + 1) & 0x3F) << 12 |
                     (byte(position + 2) & 0x3F) << 6 | (byte(position + 3) & 0x3F);
  position += 4;
  return c;
}

void append(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

bool valid_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t i = 0; i < text.size();) {
    if (bytes[i] < 0x80) {
      ++i;
      continue;
    }
    utf8proc_int32_t c = 0;
    const auto used = utf8proc_iterate(bytes + i, static_cast<utf8proc_ssize_t>(text.size() - i), &c);
    if (used <= 0) return false;
    i += static_cast<std::size_t>(used);
  }
  return true;
}

std::vector<char32_t> decode(std::string_view text) {
  std::vector<char32_t> result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) result.push_back(next_code_point(text, i));
  return result;
}

std::string encode(const std::vector<char32_t>& text) {
  std::string result;
  for (const char32_t c : text) append(result, c);
  return result;
}

bool is_space(char32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || category(c) == UTF8PROC_CATEGORY_ZS || c == 0x2028 || c == 0x2029;
}

bool is_alpha(char32_t c) {
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_digit(char32_t c) {
  return is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 ||
         (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468);
}

bool is_numeric(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_printable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool is_upper(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU || (c >= 0x2160 && c <= 0x216F) || (c >= 0x24B6 && c <= 0x24CF);
}
bool is_lower(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA || (c >= 0x2170 && c <= 0x217F) ||
         (c >= 0x24D0 && c <= 0x24E9);
}
bool is_title(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LT;
}

bool is_identifier(std::string_view text) {
  if (text.empty()) return false;
  for (std::size_t i = 0; i < text.size();) {
    const bool first = i == 0;
    const char32_t c = next_code_point(text, i);
    const auto k = category(c);
    const bool start = c == '_' || is_alpha(c) || k == UTF8PROC_CATEGORY_NL;
    const bool inside =
        is_decimal(c) || k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_PC;
    if (!start && (first || !inside)) return false;
  }
  return true;
}

std::string upper(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) append_upper(result, next_code_point(text, i));
  return result;
}

std::string lower(std::string_view text) {
  std::string result;
  bool after_cased = false;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (c == 0x3A3) {  // a final sigma ends its word
      std::size_t ahead = i;
      const bool goes_on = ahead < text.size() && is_cased(next_code_point(text, ahead));
      append(result, after_cased && !goes_on ? 0x3C2 : 0x3C3);
    } else {
      append_lower(result, c);
    }
    after_cased = is_cased(c);
  }
  return result;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return "";
  std::size_t i = 0;
  std::string result;
  append_title(result, next_code_point(text, i));
  return result + lower(text.substr(i));
}

std::string title(std::string_view text) {
  std::string result;
  bool in_word = false;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (in_word)
      append_lower(result, c);
    else
      append_title(result, c);
    in_word = is_cased(c);
  }
  return result;
}

std::string swap_case(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (is_upper(c))
      append_lower(result, c);
    else if (is_lower(c))
      append_upper(result, c);
    else
      append(result, c);
  }
  return result;
}

std::string_view strip(std::string_view text, Side side, const std::string_view* characters) {
  std::vector<char32_t> set;
  if (characters) {
    set = decode(*characters);
    std::sort(set.begin(), set.end());
  }
  const auto goes = [&](char32_t c) {
    return characters ? std::binary_search(set.begin(), set.end(), c) : is_space(c);
  };
  std::size_t begin = 0, end = text.size();
  while (side != Side::Right && begin < end) {
    std::size_t next = begin;
    if (!goes(next_code_point(text, next))) break;
    begin = next;
  }
  while (side != Side::Left && begin < end) {
    std::size_t last = previous_start(text, end);
    const std::size_t start = last;
    if (!goes(next_code_point(text, last))) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string> split(std::string_view text, std::int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  if (from_right) {
    std::string_view left = strip(text, Side::Right);
    while (!left.empty()) {
      if (limit >= 0 && static_cast<std::int64_t>(parts.size()) == limit) {
        parts.emplace_back(left);
        break;
      }
      std::size_t start = left.size();
      while (start > 0) {
        const std::size_t before = previous_start(left, start);
        std::size_t at = before;
        if (is_space(next_code_point(left, at))) break;
        start = before;
      }
      parts.emplace_back(left.substr(start));
      left = strip(left.substr(0, start), Side::Right);
    }
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  std::string_view left = strip(text, Side::Left);
  while (!left.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(parts.size()) == limit) {
      parts.emplace_back(left);
      break;
    }
    std::size_t end = 0;
    while (end < left.size()) {
      std::size_t next = end;
      if (is_space(next_code_point(left, next))) break;
      end = next;
    }
    parts.emplace_back(left.substr(0, end));
    left = strip(left.substr(end), Side::Left);
  }
  return parts;
}

std::vector<std::string> split(std::string_view text, std::string_view separator, std::int64_t limit,
                               bool from_right) {
  std::vector<std::string> parts;
  const auto may_cut = [&] { return limit < 0 || static_cast<std::int64_t>(parts.size()) < limit; };
  if (from_right) {
    while (may_cut()) {
      const std::size_t at = text.rfind(separator);
      if (at == std::string_view::npos) break;
      parts.emplace_back(text.substr(at + separator.size()));
      text = text.substr(0, at);
    }
    parts.emplace_back(text);
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  while (may_cut()) {
    const std::size_t at = text.find(separator);
    if (at == std::string_view::npos) break;
    parts.emplace_back(text.substr(0, at));
    text = text.substr(at + separator.size());
  }
  parts.emplace_back(text);
  return parts;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  std::size_t start = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t at = i;
    const char32_t c = next_code_point(text, i);
    if (!is_line_end(c)) continue;
    if (c == '\r' && i < text.size() && text[i] == '\n') ++i;
    lines.emplace_back(text.substr(start, (keep_ends ? i : at) - start));
    start = i;
  }
  if (start < text.size()) lines.emplace_back(text.substr(start));
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, std::int64_t limit,
                    std::size_t max_bytes) {
  std::string result;
  const auto add = [&](std::string_view part) {
    if (result.size() + part.size() > max_bytes)
      fail("MemoryError", "a text grows beyond what a template may build");
    result += part;
  };
  std::int64_t done = 0;
  if (from.empty()) {
    // Between all characters, and at both ends.
    for (std::size_t i = 0; i <= text.size(); ++done) {
      if (limit >= 0 && done >= limit) {
        add(text.substr(i));
        return result;
      }
      add(to);
      if (i == text.size()) break;
      const std::size_t start = i;
      next_code_point(text, i);
      add(text.substr(start, i - start));
    }
    return result;
  }
  while (limit < 0 || done < limit) {
    const std::size_t at = text.find(from);
    if (at == std::string_view::npos) break;
    add(text.substr(0, at));
    add(to);
    text = text.substr(at + from.size());
    ++done;
  }
  add(text);
  return result;
}

std::string escape_html(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&#34;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string pad(std::string_view text, std::size_t width, char align, std::string_view fill) {
  const std::size_t length = code_points(text);
  if (length >= width) return std::string(text);
  const std::size_t missing = width - length;
  std::size_t left = 0;
  if (align == '>') left = missing;
  // str.center puts the odd one to the left if the width is odd; format's ^ always to the right.
  if (align == 'c') left = missing / 2 + (missing & width & 1);
  if (align == '^') left = missing / 2;
  std::string result;
  for (std::size_t i = 0; i < left; ++i) result += fill;
  result += text;
  for (std::size_t i = left; i < missing; ++i) result += fill;
  return result;
}

}  // namespace candela::jinja
