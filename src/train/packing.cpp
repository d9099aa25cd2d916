#include <algorithm>
#include <map>
#include <numeric>

#include <candela/core/error.h>
#include <candela/train/packing.h>

namespace candela {

std::vector<std::vector<std::size_t>> best_fit_packs(std::span<const std::size_t> lengths,
                                                     std::size_t capacity) {
  require(capacity > 0, "packing: the capacity must be positive");
  std::vector<std::size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lengths[a] > lengths[b]; });
  std::vector<std::vector<std::size_t>> packs;
  std::multimap<std::size_t, std::size_t> room;  // what a pack has left, and the pack
  for (const std::size_t row : order) {
    const std::size_t length = lengths[row];
    const auto fit = room.lower_bound(length);
    std::size_t pack = packs.size();
    std::size_t left = capacity > length ? capacity - length : 0;
    if (fit != room.end()) {
      pack = fit->second;
      left = fit->first - length;
      room.erase(fit);
    } else {
      packs.emplace_back();
    }
    packs[pack].push_back(row);
    if (left > 0) room.emplace(left, pack);
  }
  return packs;
}

}  // namespace candela
