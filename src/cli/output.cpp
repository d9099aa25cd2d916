#include "cli/output.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <unistd.h>

#include "io/utf8.h"

namespace candela::cli {
namespace {

[[noreturn]] void fail(int error) {
  const std::string text =
      fmt::format("standard output could not be written: {}", std::generic_category().message(error));
  if (error == EPIPE) throw ReaderGone(text);
  throw IoError(text);
}

/// Characters that no terminal should be given: C1 controls, line and paragraph separators, and what reorders
/// text (Unicode's Bidi_Control).
bool is_unsafe(std::int32_t c) {
  return (c >= 0x80 && c < 0xA0) || c == 0x061C || c == 0x200E || c == 0x200F ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

std::string escape(std::string_view text, std::string_view allowed_controls) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x80) {
      const bool control = byte < 0x20 || byte == 0x7F;
      const bool allowed = !control || allowed_controls.find(text[at]) != std::string_view::npos;
      allowed ? result += text[at] : result += fmt::format("\\x{:02x}", byte);
      ++at;
      continue;
    }
    if (io::valid_utf8_prefix(text.substr(at, 4)) == 0) {
      result += fmt::format("\\x{:02x}", byte);
      ++at;
      continue;
    }
    const auto [value, bytes] = io::code_point_at(text, at);
    is_unsafe(value) ? result += fmt::format("\\u{{{:04x}}}", value) : result += text.substr(at, bytes);
    at += bytes;
  }
  return result;
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

void write_text(std::string_view text) {
  ::isatty(STDOUT_FILENO) != 0 ? write_output(escaped(text)) : write_output(text);
}

std::string escaped(std::string_view text) {
  return escape(text, "\n\t");
}

std::string escaped_name(std::string_view text) {
  return escape(text, "");
}

std::string printable(std::string_view text) {
  constexpr std::size_t kMost = 8192;
  std::size_t end = std::min(text.size(), kMost);
  // Not within a character: continuation bytes are 10xxxxxx.
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  std::string result = escaped(text.substr(0, end));
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
