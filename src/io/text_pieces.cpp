#include "io/text_pieces.h"

#include <algorithm>
#include <fmt/format.h>

#include "io/utf8.h"

namespace candela::io {

bool TextPieces::read_paragraph() {
  constexpr std::size_t kLongest = std::size_t{64} << 10;
  paragraph_.clear();
  bool words = false;
  const std::size_t first = cursor_.line_number();
  while (cursor_.peek() >= 0) {
    const std::size_t number = cursor_.line_number();
    const std::string_view line = *cursor_.line();
    require<IoError>(is_valid_utf8(line), "{}: must be UTF-8; save the file as UTF-8", cursor_.where(number));
    paragraph_ += line;
    const bool broken = cursor_.line_number() > number;
    if (broken) paragraph_ += '\n';
    const bool blank = line.find_first_not_of(" \t\r") == std::string_view::npos;
    words = words || !blank;
    // The blank lines behind a paragraph are its own: the next one begins with a word.
    const int next = cursor_.peek();
    if (words && blank && next != '\n' && next != '\r') break;
    if (paragraph_.size() >= kLongest) break;
  }
  if (paragraph_.empty()) return false;
  line_ = first;
  return true;
}

std::optional<TextPiece> TextPieces::next() {
  TextPiece piece;
  for (;;) {
    if (taken_ == waiting_.size()) {
      if (!read_paragraph()) break;
      waiting_ = tokenizer_.encode(paragraph_, false);
      taken_ = 0;
    }
    if (piece.ids.empty()) piece.line = line_;
    const std::size_t room = capacity_ - piece.ids.size();
    const std::size_t left = waiting_.size() - taken_;
    // A piece of one token predicts nothing: it takes some of a paragraph that does not fit as a whole.
    if (left > room && piece.ids.size() >= 2) return piece;
    const auto first = waiting_.begin() + static_cast<std::ptrdiff_t>(taken_);
    const std::size_t count = std::min(room, left);
    piece.ids.insert(piece.ids.end(), first, first + static_cast<std::ptrdiff_t>(count));
    taken_ += count;
    const bool more = taken_ < waiting_.size() || cursor_.peek() >= 0;
    if (piece.ids.size() == capacity_ && more) return piece;
  }
  piece.last = true;
  return piece.ids.empty() ? std::nullopt : std::optional(std::move(piece));
}

}  // namespace candela::io
