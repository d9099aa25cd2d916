#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <candela/io/tokenizer.h>

#include "io/byte_cursor.h"

namespace candela::io {

/// Tokens of one piece of a text.
struct TextPiece {
  /// where it begins, from 1
  std::size_t line = 0;
  std::vector<TokenId> ids;
  bool last = false;
};

/// A text as pieces of at most `capacity` tokens (at least 2): whole paragraphs while they fit, a longer one
/// cut. The pieces in their order are the whole text; a paragraph ends with its blank lines, and after 64 KiB
/// at the next line break. IoError for what is not UTF-8.
class TextPieces {
 public:
  TextPieces(ByteCursor& cursor, const Tokenizer& tokenizer, std::size_t capacity)
      : cursor_(cursor), tokenizer_(tokenizer), capacity_(capacity) {}

  std::optional<TextPiece> next();

 private:
  bool read_paragraph();

  ByteCursor& cursor_;
  const Tokenizer& tokenizer_;
  std::size_t capacity_;
  std::string paragraph_;
  /// tokens of the paragraph, how many of them pieces have, and where it begins
  std::vector<TokenId> waiting_;
  std::size_t taken_ = 0;
  std::size_t line_ = 1;
};

}  // namespace candela::io
