#include "cli/input.h"

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <streambuf>
#include <system_error>
#include <unistd.h>

#include <candela/core/error.h>

namespace candela::cli {

std::string read_standard_input(std::size_t most) {
  constexpr std::size_t kStep = std::size_t{1} << 16U;
  std::string text;
  for (;;) {
    const std::size_t before = text.size();
    text.resize(before + kStep);
    const ssize_t got = ::read(STDIN_FILENO, text.data() + before, kStep);
    text.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0) return text;
    if (got < 0 && errno != EINTR)
      throw IoError(
          fmt::format("standard input: cannot be read: {}", std::generic_category().message(errno)));
    require<IoError>(text.size() <= most,
                     "standard input: must be at most {} bytes; got more: split the text", most);
  }
}

std::optional<std::string> read_input_line(std::size_t most) {
  constexpr int kEnd = std::char_traits<char>::eof();
  std::streambuf& in = *std::cin.rdbuf();
  int c = in.sbumpc();
  if (c == kEnd) return std::nullopt;
  std::string line;
  for (; c != kEnd && c != '\n'; c = in.sbumpc()) {
    require<IoError>(line.size() < most, "standard input: a line must be at most {} bytes; got more", most);
    line += static_cast<char>(c);
  }
  return line;
}

}  // namespace candela::cli
