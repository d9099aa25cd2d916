#pragma once
// The scalar types of the Metal Shading Language: half and bfloat as types of their own that round after
// every operation.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace metal {

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using std::int16_t;
using std::int32_t;
using std::int64_t;
using std::int8_t;
using std::ptrdiff_t;
using std::size_t;
using std::uint16_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;
using std::uintptr_t;

namespace detail {

/// Nearest even; overflow to infinity, subnormals kept, NaN stays NaN.
constexpr std::uint16_t half_bits(float value) {
#if defined(__F16C__)
  if (!std::is_constant_evaluated())
    return static_cast<std::uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
#endif
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Adding one half makes the sum's last bit 2^-24, the step of the subnormals, and rounds there.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t odd = magnitude >> 13 & 1u;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

constexpr float half_value(std::uint16_t bits) {
#if defined(__F16C__)
  if (!std::is_constant_evaluated()) return _cvtsh_ss(bits);
#endif
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // As a float the bits of a normal number are 2^112 too small; those of a subnormal would be flushed to
  // zero.
  const float value = magnitude < 0x400u ? static_cast<float>(magnitude) * 0x1p-24f
                                         : std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}

constexpr std::uint16_t bfloat_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

constexpr float bfloat_value(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

}  // namespace detail

/// 16-bit floating point. Operations compute in float and round, which is the correctly rounded result for +
/// - * / and sqrt.
struct half {
  half() = default;
  template <class T>
  requires std::is_arithmetic_v<T>
  constexpr half(T value) : bits(detail::half_bits(static_cast<float>(value))) {}
  constexpr operator float() const { return detail::half_value(bits); }
  template <class T>
  requires(std::is_arithmetic_v<T> && !std::same_as<T, float>) constexpr explicit operator T() const {
    return static_cast<T>(static_cast<float>(*this));
  }
  static constexpr half from_bits(std::uint16_t bits) {
    half out{};
    out.bits = bits;
    return out;
  }
  std::uint16_t bits;
};

/// The upper half of a float. A float becomes one only by an explicit conversion.
struct bfloat {
  bfloat() = default;
  template <class T>
  requires std::is_arithmetic_v<T>
  constexpr explicit(std::is_floating_point_v<T>) bfloat(T value)
      : bits(detail::bfloat_bits(static_cast<float>(value))) {}
  constexpr explicit bfloat(half value) : bfloat(static_cast<float>(value)) {}
  constexpr operator float() const { return detail::bfloat_value(bits); }
  template <class T>
  requires(std::is_arithmetic_v<T> && !std::same_as<T, float>) constexpr explicit operator T() const {
    return static_cast<T>(static_cast<float>(*this));
  }
  explicit operator half() const { return half(static_cast<float>(*this)); }
  static constexpr bfloat from_bits(std::uint16_t bits) {
    bfloat out{};
    out.bits = bits;
    return out;
  }
  std::uint16_t bits;
};

template <class T>
concept Small = std::same_as<T, half> || std::same_as<T, bfloat>;
template <class T>
concept Floating = Small<T> || std::same_as<T, float>;
template <class T>
concept Integer = std::integral<T> && !std::same_as<T, bool>;
template <class T>
concept Scalar = Floating<T> || std::integral<T>;

namespace detail {

/// The type that a + b has, where at least one operand is a half or a bfloat.
template <class A, class B>
struct Common {
  using Type = float;
};
template <Small A, class B>
requires(std::same_as<A, B> || std::integral<B>) struct Common<A, B> {
  using Type = A;
};
template <std::integral A, Small B>
struct Common<A, B> {
  using Type = B;
};
template <class A, class B>
concept SmallPair = (Small<A> && (Scalar<B> || std::is_enum_v<B>)) || (Small<B> && Scalar<A>);
template <class A, class B>
using common_t = typename Common<A, B>::Type;

}  // namespace detail

template <class A, class B>
requires detail::SmallPair<A, B>
constexpr detail::common_t<A, B> operator+(A a, B b) {
  using T = detail::common_t<A, B>;
  return T(static_cast<float>(a) + static_cast<float>(b));
}
template <class A, class B>
requires detail::SmallPair<A, B>
constexpr detail::common_t<A, B> operator-(A a, B b) {
  using T = detail::common_t<A, B>;
  return T(static_cast<float>(a) - static_cast<float>(b));
}
template <class A, class B>
requires detail::SmallPair<A, B>
constexpr detail::common_t<A, B> operator*(A a, B b) {
  using T = detail::common_t<A, B>;
  return T(static_cast<float>(a) * static_cast<float>(b));
}
template <class A, class B>
requires detail::SmallPair<A, B>
constexpr detail::common_t<A, B> operator/(A a, B b) {
  using T = detail::common_t<A, B>;
  return T(static_cast<float>(a) / static_cast<float>(b));
}
template <class A, class B>
requires detail::SmallPair<A, B>
constexpr bool operator==(A a, B b) {
  return static_cast<float>(a) == static_cast<float>(b);
}
template <class A, class B>
requires detail::SmallPair<A, B>
constexpr bool operator<(A a, B b) {
  return static_cast<float>(a) < static_cast<float>(b);
}
template <class A, class B>
requires detail::SmallPair<A, B>
constexpr bool operator>(A a, B b) {
  return static_cast<float>(a) > static_cast<float>(b);
}
template <class A, class B>
requires detail::SmallPair<A, B>
constexpr bool operator<=(A a, B b) {
  return static_cast<float>(a) <= static_cast<float>(b);
}
template <class A, class B>
requires detail::SmallPair<A, B>
constexpr bool operator>=(A a, B b) {
  return static_cast<float>(a) >= static_cast<float>(b);
}
template <Small A>
constexpr A operator-(A a) {
  return A::from_bits(a.bits ^ 0x8000u);
}
template <Small A>
constexpr A operator+(A a) {
  return a;
}
template <Small A, Scalar B>
constexpr A& operator+=(A& a, B b) {
  return a = A(a + b);
}
template <Small A, Scalar B>
constexpr A& operator-=(A& a, B b) {
  return a = A(a - b);
}
template <Small A, Scalar B>
constexpr A& operator*=(A& a, B b) {
  return a = A(a * b);
}
template <Small A, Scalar B>
constexpr A& operator/=(A& a, B b) {
  return a = A(a / b);
}
template <Small A>
constexpr A& operator++(A& a) {
  return a = a + 1;
}

/// The same bits as another type of the same size.
template <class To, class From>
requires(sizeof(To) == sizeof(From)) To as_type(const From& from) {
  To to;
  std::memcpy(static_cast<void*>(&to), &from, sizeof(To));
  return to;
}

}  // namespace metal
