#include "io/byte_cursor.h"

#include <algorithm>
#include <fmt/format.h>

namespace candela::io {

ByteCursor::ByteCursor(ByteSource& source, std::string name) : source_(source), name_(std::move(name)) {}

bool ByteCursor::refill() {
  piece_ = source_.next();
  at_ = 0;
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (!started_ && piece_.starts_with(kByteOrderMark)) piece_.remove_prefix(kByteOrderMark.size());
  started_ = true;
  return !piece_.empty();
}

void ByteCursor::too_long(std::size_t line) const {
  throw BrokenFile(fmt::format("{}: must be at most {} bytes; got more: is a line break missing?",
                               where(line), kMaxRowBytes));
}

std::optional<std::string_view> ByteCursor::line() {
  if (peek() < 0) return std::nullopt;
  carried_.clear();
  for (;;) {
    // No further than a row may reach: a file can be larger than memory, and have no line break.
    const std::string_view near = piece_.substr(at_, kMaxRowBytes + 1 - carried_.size());
    const std::size_t length = std::min(near.find('\n'), near.size());
    const std::string_view part = near.substr(0, length);
    const bool ends = length < near.size();
    if (carried_.size() + length > kMaxRowBytes) too_long(line_);
    at_ += length + (ends ? 1 : 0);
    if (ends) ++line_;
    if (ends && carried_.empty()) return part;
    carried_ += part;
    if (ends || peek() < 0) return carried_;
  }
}

void ByteCursor::skip_blanks() {
  for (int byte = peek(); byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n'; byte = peek()) get();
}

}  // namespace candela::io
