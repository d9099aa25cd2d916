#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <candela/core/error.h>

/// What every fuzz target shares: bytes in, and candela::Error as the only way a parser may refuse them.
namespace candela::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Runs `parse`; anything but a candela::Error goes on to libFuzzer as a finding.
template <class Parse>
void expect_result_or_error(Parse&& parse) {
  try {
    parse();
  } catch (const Error&) {
    // Refusing bad input is the other right answer.
  }
}

/// A finding: what must hold does not.
inline void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

}  // namespace candela::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
