#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace text_to_sql {

/// Integer-only sampling on std::mt19937_64, whose output the C++ standard fixes bit by bit. The standard's
/// distributions are not used, because each library is free to implement them differently: with this class,
/// one seed makes the same data set with every compiler.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// Uniform in [0, n), n >= 1. Draws below the largest multiple of n are kept, so no value is favoured.
  std::size_t below(std::size_t n) {
    const std::uint64_t size = n;
    const std::uint64_t rejected = (0 - size) % size;  // 2^64 mod n
    std::uint64_t draw = engine_();
    while (draw < rejected) draw = engine_();
    return static_cast<std::size_t>(draw % size);
  }

  /// Uniform in [low, high], both included.
  int between(int low, int high) {
    return low + static_cast<int>(below(static_cast<std::size_t>(high - low + 1)));
  }

  /// True in `percent` of 100 cases.
  bool chance(int percent) { return between(0, 99) < percent; }

  template <class T>
  const T& pick(const std::vector<T>& items) {
    return items[below(items.size())];
  }

  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

  /// The index of an entry of `weights`, drawn in proportion to it. At least one weight is above zero.
  std::size_t weighted(const std::vector<int>& weights) {
    int total = 0;
    for (int weight : weights) total += weight;
    int draw = between(0, total - 1);
    std::size_t index = 0;
    while (draw >= weights[index]) draw -= weights[index++];
    return index;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace text_to_sql
