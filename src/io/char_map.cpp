#include "io/char_map.h"

#include <utf8proc.h>

#include "io/utf8.h"

namespace candela::io {
namespace {

/// The bytes that `text` stands for; nothing if it is not base64 (RFC 4648, padded).
std::optional<std::string> from_base64(std::string_view text) {
  const auto digit = [](char c) -> int {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  if (text.size() % 4 != 0) return std::nullopt;
  std::size_t digits = text.size();
  while (digits > 0 && text.size() - digits < 2 && text[digits - 1] == '=') --digits;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text.substr(0, digits)) {
    const int value = digit(c);
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count & 0xFF);
    }
  }
  return bytes;
}

std::uint32_t u32_at(std::string_view bytes, std::size_t position) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[position + i]);
  return value;
}

/// The fields of a unit of the trie, as Darts-clone packs them.
bool has_leaf(std::uint32_t unit) {
  return (unit >> 8 & 1) != 0;
}
std::uint32_t label(std::uint32_t unit) {
  return unit & ((std::uint32_t{1} << 31) | 0xFF);
}
std::uint32_t offset(std::uint32_t unit) {
  return (unit >> 10) << ((unit & (std::uint32_t{1} << 9)) >> 6);
}

/// Calls `visit(grapheme)` for each extended grapheme cluster of `text` (Unicode annex 29).
template <class Visit>
void for_each_grapheme(std::string_view text, Visit&& visit) {
  std::size_t begin = 0;
  utf8proc_int32_t state = 0;
  utf8proc_int32_t before = -1;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (before >= 0 && utf8proc_grapheme_break_stateful(before, c.value, &state)) {
      visit(text.substr(begin, i - begin));
      begin = i;
    }
    before = c.value;
    i += c.bytes;
  }
  if (begin < text.size()) visit(text.substr(begin));
}

}  // namespace

CharMap::CharMap(const JsonObject& description) {
  constexpr const char* kField = "precompiled_charsmap";
  const auto bytes = from_base64(description.string(kField));
  if (!bytes) description.fail(kField, "base64");
  const std::size_t trie_bytes = bytes->size() >= 4 ? u32_at(*bytes, 0) : 0;
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > bytes->size() - 4) {
    throw IoError(
        fmt::format("{}: {} must hold a trie of whole units after its size; got {} bytes of trie in {}",
                    description.source(), description.path_of(kField), trie_bytes, bytes->size()));
  }
  trie_.reserve(trie_bytes / 4);
  for (std::size_t i = 0; i < trie_bytes; i += 4) trie_.push_back(u32_at(*bytes, 4 + i));
  replacements_ = bytes->substr(4 + trie_bytes);
  require<IoError>(is_valid_utf8(replacements_), "{}: {} must hold replacements in UTF-8",
                   description.source(), description.path_of(kField));
}

/// The replacement of the shortest entry that starts `key`. That it need not be the whole of `key` is how the
/// reference implementation behaves.
std::optional<std::string_view> CharMap::find(std::string_view key) const {
  std::size_t node = offset(trie_[0]);
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) return std::nullopt;
    node ^= byte;
    if (node >= trie_.size()) return std::nullopt;
    const std::uint32_t unit = trie_[node];
    if (label(unit) != byte) return std::nullopt;
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (node >= trie_.size()) return std::nullopt;
    const std::size_t begin = trie_[node] & ~(std::uint32_t{1} << 31);
    if (begin > replacements_.size()) return std::nullopt;
    const std::string_view rest = std::string_view(replacements_).substr(begin);
    const std::string_view found = rest.substr(0, rest.find('\0'));
    // A hostile offset may lie inside a character.
    if (!is_valid_utf8(found)) return std::nullopt;
    return found;
  }
  return std::nullopt;
}

std::string CharMap::apply(const std::string& text, Growth& growth) const {
  constexpr std::size_t kLongestWhole = 6;
  std::string result;
  result.reserve(text.size());
  for_each_grapheme(text, [&](std::string_view grapheme) {
    if (grapheme.size() < kLongestWhole) {
      if (const auto found = find(grapheme)) {
        result += *found;
        growth.check(result.size());
        return;
      }
    }
    for (std::size_t i = 0; i < grapheme.size();) {
      const std::string_view character = grapheme.substr(i, code_point_at(grapheme, i).bytes);
      result += find(character).value_or(character);
      growth.check(result.size());
      i += character.size();
    }
  });
  return result;
}

}  // namespace candela::io
