#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include <candela/core/tensor.h>

/// Counter-based random numbers: the value at a position depends on seed and position alone, never on threads
/// or order.
namespace candela {

/// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): four words for one
/// 128-bit counter.
std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t counter_low,
                                    std::uint64_t counter_high);

/// [0, 1) with 24 random bits.
inline float uniform_from_bits(std::uint32_t bits) {
  return static_cast<float>(bits >> 8U) * 0x1p-24F;
}

/// A stream of random numbers, for one thread. Each op that needs n numbers takes the positions [offset,
/// offset + n) from `advance(n)`.
///
/// With a base(), i64 [1] on the device of the ops, dropout() adds its value to these positions when the
/// kernel runs: work that is recorded then draws anew at every replay.
class Generator {
 public:
  explicit Generator(std::uint64_t seed = 0) : seed_(seed) {}

  std::uint64_t seed() const { return seed_; }
  std::uint64_t offset() const { return offset_; }
  void set_offset(std::uint64_t offset) { offset_ = offset; }
  const Tensor& base() const { return base_; }
  void set_base(Tensor base) { base_ = std::move(base); }
  /// Reserves `count` positions and returns the first.
  std::uint64_t advance(std::uint64_t count);

  /// Host-side draws; each takes one position.
  std::uint32_t next_bits();
  float next_uniform() { return uniform_from_bits(next_bits()); }
  /// Uniform in [0, bound), without modulo bias. bound > 0. Takes two positions for each try; hardly ever
  /// does it need a second one.
  std::uint64_t next_below(std::uint64_t bound);

 private:
  std::uint64_t seed_;
  std::uint64_t offset_ = 0;
  Tensor base_;
};

}  // namespace candela
