#pragma once

#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

namespace candela {

/// The blocks of memory, in bytes, that a kernel takes from its device's allocator and holds at once.
using ScratchBlocks = std::vector<std::size_t>;

inline std::size_t total_bytes(const ScratchBlocks& blocks) {
  return std::accumulate(blocks.begin(), blocks.end(), std::size_t{0});
}

/// Of two that are not held together, the one that counts.
inline ScratchBlocks larger(ScratchBlocks a, ScratchBlocks b) {
  return total_bytes(a) >= total_bytes(b) ? std::move(a) : std::move(b);
}

/// Of two that are held together.
inline ScratchBlocks together(ScratchBlocks a, const ScratchBlocks& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace candela
