#include "io/seeded_hash.h"

#include <cstring>
#include <random>

namespace candela::io {

std::uint64_t random_seed() {
  std::random_device random;
  return std::uint64_t{random()} << 32 | random();
}

StringHash::StringHash() : seed_(random_seed()) {}

std::size_t StringHash::operator()(std::string_view text) const {
  std::uint64_t hash = seed_ ^ text.size();
  std::size_t at = 0;
  std::uint64_t word = 0;
  for (; at + sizeof word <= text.size(); at += sizeof word) {
    std::memcpy(&word, text.data() + at, sizeof word);
    hash = mixed(hash ^ word);
  }
  word = 0;
  for (; at < text.size(); ++at) word = word << 8 | static_cast<unsigned char>(text[at]);
  return static_cast<std::size_t>(mixed(hash ^ word));
}

}  // namespace candela::io
