#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace candela {

/// Rows of `lengths` in as few packs of at most `capacity` as best-fit finds: each row, the longest first,
/// goes where it leaves the least room. A row longer than `capacity` has a pack of its own. Every row is in
/// exactly one pack; the order is a function of the arguments alone. O(n log n).
std::vector<std::vector<std::size_t>> best_fit_packs(std::span<const std::size_t> lengths,
                                                     std::size_t capacity);

}  // namespace candela
