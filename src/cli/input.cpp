#include "cli/input.h"

#include <algorithm>
#include <cerrno>
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

}  // namespace candela::cli
