#include "cli/output.h"

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

void note(std::string_view text) {
  write_error(fmt::format("candela: note: {}\n", text));
}

void warn(std::string_view text) {
  write_error(fmt::format("candela: warning: {}\n", text));
}

}  // namespace candela::cli
