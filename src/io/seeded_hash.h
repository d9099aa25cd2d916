#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

/// Hashes of what files from outside name.
namespace candela::io {

/// Drawn anew at each call.
std::uint64_t random_seed();

/// A permutation of 64-bit numbers that looks like chance: the finalizer of splitmix64.
inline std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

/// The hash of strings from outside: with a seed drawn for each table, as whoever knew where strings go could
/// have them all meet in one place. What is found does not depend on the seed.
class StringHash {
 public:
  using is_transparent = void;
  StringHash();
  std::size_t operator()(std::string_view text) const;

 private:
  std::uint64_t seed_;
};

}  // namespace candela::io
