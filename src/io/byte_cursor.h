#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <candela/core/error.h>

#include "io/byte_source.h"

namespace candela::io {

/// Longest row of any kind, in bytes.
inline constexpr std::size_t kMaxRowBytes = std::size_t{64} << 20;

/// What a file is broken by beyond its row: nothing behind it can be read.
class BrokenFile : public IoError {
 public:
  using IoError::IoError;
};

/// A place in a stream of bytes, which knows its line. A byte order mark in front is skipped.
class ByteCursor {
 public:
  /// `name` opens errors.
  ByteCursor(ByteSource& source, std::string name);

  /// The byte at the cursor as 0 to 255; -1: the end.
  int peek() {
    if (at_ == piece_.size() && !refill()) return -1;
    return static_cast<unsigned char>(piece_[at_]);
  }
  /// The same, and goes on to the next.
  int get() {
    const int byte = peek();
    if (byte < 0) return byte;
    ++at_;
    if (byte == '\n') ++line_;
    return byte;
  }
  /// All up to the next line break, which is passed and not given, valid until the next call of any method;
  /// nothing at the end. BrokenFile for a line above kMaxRowBytes.
  std::optional<std::string_view> line();
  void skip_blanks();

  /// The line of the cursor, from 1.
  std::size_t line_number() const { return line_; }
  const std::string& name() const { return name_; }
  /// name:line
  std::string where(std::size_t line) const { return name_ + ":" + std::to_string(line); }
  /// BrokenFile for a row that began in `line` and is above kMaxRowBytes.
  [[noreturn]] void too_long(std::size_t line) const;

 private:
  bool refill();

  ByteSource& source_;
  std::string name_;
  std::string_view piece_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  bool started_ = false;
  std::string carried_;
};

}  // namespace candela::io
