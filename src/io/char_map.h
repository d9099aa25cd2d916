#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/components.h"
#include "io/json.h"

namespace candela::io {

/// SentencePiece's precompiled map of characters (NFKC with its own additions, as a rule): a double-array
/// trie of what is replaced, and the strings that take its place.
class CharMap {
 public:
  /// The field precompiled_charsmap: base64 of the trie's size in bytes (u32, little-endian), the trie, and
  /// the strings, each ended by a zero. IoError naming the field if it is anything else.
  explicit CharMap(const JsonObject& description);

  /// Replaces each grapheme of fewer than 6 bytes, or else each of its characters, that the map holds.
  std::string apply(const std::string& text, Growth& growth) const;

 private:
  std::optional<std::string_view> find(std::string_view key) const;

  std::vector<std::uint32_t> trie_;
  std::string replacements_;
};

}  // namespace candela::io
