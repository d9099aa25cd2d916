#include <candela/core/random.h>

namespace candela {

std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t counter_low,
                                    std::uint64_t counter_high) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53U;
  constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57U;
  auto key0 = static_cast<std::uint32_t>(seed);
  auto key1 = static_cast<std::uint32_t>(seed >> 32U);
  std::array<std::uint32_t, 4> c = {
      static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32U),
      static_cast<std::uint32_t>(counter_high), static_cast<std::uint32_t>(counter_high >> 32U)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * c[0];
    const std::uint64_t product1 = kMultiplier1 * c[2];
    c = {static_cast<std::uint32_t>(product1 >> 32U) ^ c[1] ^ key0, static_cast<std::uint32_t>(product1),
         static_cast<std::uint32_t>(product0 >> 32U) ^ c[3] ^ key1, static_cast<std::uint32_t>(product0)};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return c;
}

std::uint64_t Generator::advance(std::uint64_t count) {
  const std::uint64_t first = offset_;
  offset_ += count;
  return first;
}

std::uint32_t Generator::next_bits() {
  const std::uint64_t position = advance(1);
  return philox(seed_, position / 4, 0)[position % 4];
}

std::uint64_t Generator::next_below(std::uint64_t bound) {
  const std::uint64_t limit = ~std::uint64_t{0} - ~std::uint64_t{0} % bound;
  std::uint64_t value = limit;
  while (value >= limit) {
    const std::uint64_t high = next_bits();
    value = (high << 32U) | next_bits();
  }
  return value % bound;
}

}  // namespace candela
