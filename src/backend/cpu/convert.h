#pragma once

#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include <candela/core/dtype.h>

namespace candela {

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

/// The number's nearest neighbour among the integers of type To, fractions cut off; NaN becomes 0. (In C++
/// itself a float beyond the range has no defined value.)
template <class To, class From>
To saturate(From value) {
  if constexpr (std::is_floating_point_v<From>) {
    // The first power of two beyond the range: a float, as the largest integer need not be.
    constexpr To kHalf = std::numeric_limits<To>::max() / 2 + 1;
    constexpr From kBeyond = static_cast<From>(kHalf) * 2;
    if (std::isnan(value)) return 0;
    if (value >= kBeyond) return std::numeric_limits<To>::max();
    if (value < static_cast<From>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    return static_cast<To>(value);
  } else {
    if (std::cmp_less(value, std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    if (std::cmp_greater(value, std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    return static_cast<To>(value);
  }
}

/// Between any two element types: 16-bit floats go by way of float; into integers as saturate().
template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (kIsHalf<From>) {
    return convert<To>(static_cast<float>(value));
  } else if constexpr (kIsHalf<To>) {
    return To(static_cast<float>(value));
  } else if constexpr (std::is_integral_v<To>) {
    return saturate<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace candela
