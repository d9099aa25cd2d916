#include "cli/output.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include <candela/core/error.h>

namespace candela::cli {
namespace {

[[noreturn]] void fail(int error) {
  throw IoError(
      fmt::format("standard output could not be written: {}", std::generic_category().message(error)));
}

}  // namespace

void write_output(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail(errno);
}

void flush_output() {
  if (std::fflush(stdout) != 0) fail(errno);
  // A write that failed earlier, inside of a library, leaves its mark.
  if (std::ferror(stdout) != 0) fail(EIO);
}

void write_error(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

std::string printable(std::string_view text) {
  constexpr std::size_t kMost = 8192;
  std::size_t end = std::min(text.size(), kMost);
  // Not within a character: continuation bytes are 10xxxxxx.
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  std::string result;
  for (const char c : text.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F;
    control ? result += fmt::format("\\x{:02x}", byte) : result += c;
  }
  if (end < text.size()) result += fmt::format("... and {} more bytes", text.size() - end);
  return result;
}

void note(std::string_view text) {
  write_error(fmt::format("candela: note: {}\n", printable(text)));
}

void warn(std::string_view text) {
  write_error(fmt::format("candela: warning: {}\n", printable(text)));
}

}  // namespace candela::cli
