#pragma once
// The mathematics of the Metal Shading Language. half and bfloat compute in float and round the result.

#include "vector.h"

namespace metal {

namespace detail {

template <class T>
concept FloatOrVector = Floating<T> ||(AnyVector<T>&& requires { requires Floating<element_t<T>>; });
template <class T>
concept ScalarOrVector = Scalar<T> || AnyVector<T>;

/// f: float -> float over a scalar or every element.
template <class T, class F>
auto map(const T& x, F f) {
  if constexpr (AnyVector<T>) {
    return each(x, [&f](auto e) { return static_cast<decltype(e)>(f(static_cast<float>(e))); });
  } else {
    return static_cast<T>(f(static_cast<float>(x)));
  }
}

/// Two operands of one type, or a vector and a scalar.
template <class A, class B>
concept Alike = (Scalar<A> && std::same_as<A, B>) || VectorPair<A, B>;

/// As for functions of floating-point arguments alone, where an integer among them becomes floating.
template <class A, class B>
concept FloatAlike = Alike<A, B> ||(Floating<A>&& std::integral<B>) || (std::integral<A> && Floating<B>);
template <class A, class B>
using float_type_t = std::conditional_t<Floating<A>, A, B>;

template <class A, class B, class F>
auto map2(const A& a, const B& b, F f) {
  if constexpr (Scalar<A> && Scalar<B>) {
    using T = std::conditional_t<std::same_as<A, B>, A, float_type_t<A, B>>;
    return static_cast<T>(f(static_cast<T>(a), static_cast<T>(b)));
  } else {
    return zip(a, b, [&f](auto x, auto y) { return static_cast<decltype(x)>(f(x, y)); });
  }
}

template <class T>
auto smaller(T a, T b) {
  if constexpr (Floating<T>) {
    return std::fmin(static_cast<float>(a), static_cast<float>(b));
  } else {
    return b < a ? b : a;
  }
}
template <class T>
auto larger(T a, T b) {
  if constexpr (Floating<T>) {
    return std::fmax(static_cast<float>(a), static_cast<float>(b));
  } else {
    return a < b ? b : a;
  }
}

template <class T, class F>
auto test(const T& x, F f) {
  if constexpr (AnyVector<T>) {
    return each(x, [&f](auto e) -> bool { return f(static_cast<float>(e)); });
  } else {
    return static_cast<bool>(f(static_cast<float>(x)));
  }
}

}  // namespace detail

template <detail::FloatOrVector T>
auto exp(const T& x) {
  return detail::map(x, [](float v) { return std::exp(v); });
}
template <detail::FloatOrVector T>
auto exp2(const T& x) {
  return detail::map(x, [](float v) { return std::exp2(v); });
}
template <detail::FloatOrVector T>
auto exp10(const T& x) {
  return detail::map(x, [](float v) { return static_cast<float>(std::pow(10.0, static_cast<double>(v))); });
}
template <detail::FloatOrVector T>
auto log(const T& x) {
  return detail::map(x, [](float v) { return std::log(v); });
}
template <detail::FloatOrVector T>
auto log2(const T& x) {
  return detail::map(x, [](float v) { return std::log2(v); });
}
template <detail::FloatOrVector T>
auto log10(const T& x) {
  return detail::map(x, [](float v) { return std::log10(v); });
}
template <detail::FloatOrVector T>
auto sqrt(const T& x) {
  return detail::map(x, [](float v) { return std::sqrt(v); });
}
template <detail::FloatOrVector T>
auto rsqrt(const T& x) {
  return detail::map(x, [](float v) { return 1.0f / std::sqrt(v); });
}
template <detail::FloatOrVector T>
auto sin(const T& x) {
  return detail::map(x, [](float v) { return std::sin(v); });
}
template <detail::FloatOrVector T>
auto cos(const T& x) {
  return detail::map(x, [](float v) { return std::cos(v); });
}
/// cos(pi x)
template <detail::FloatOrVector T>
auto cospi(const T& x) {
  return detail::map(x, [](float v) {
    return static_cast<float>(std::cos(3.141592653589793238 * std::fmod(static_cast<double>(v), 2.0)));
  });
}
template <detail::FloatOrVector T>
auto tan(const T& x) {
  return detail::map(x, [](float v) { return std::tan(v); });
}
template <detail::FloatOrVector T>
auto asin(const T& x) {
  return detail::map(x, [](float v) { return std::asin(v); });
}
template <detail::FloatOrVector T>
auto acos(const T& x) {
  return detail::map(x, [](float v) { return std::acos(v); });
}
template <detail::FloatOrVector T>
auto atan(const T& x) {
  return detail::map(x, [](float v) { return std::atan(v); });
}
template <detail::FloatOrVector T>
auto sinh(const T& x) {
  return detail::map(x, [](float v) { return std::sinh(v); });
}
template <detail::FloatOrVector T>
auto cosh(const T& x) {
  return detail::map(x, [](float v) { return std::cosh(v); });
}
template <detail::FloatOrVector T>
auto tanh(const T& x) {
  return detail::map(x, [](float v) { return std::tanh(v); });
}
template <detail::FloatOrVector T>
auto floor(const T& x) {
  return detail::map(x, [](float v) { return std::floor(v); });
}
template <detail::FloatOrVector T>
auto ceil(const T& x) {
  return detail::map(x, [](float v) { return std::ceil(v); });
}
template <detail::FloatOrVector T>
auto trunc(const T& x) {
  return detail::map(x, [](float v) { return std::trunc(v); });
}
template <detail::FloatOrVector T>
auto round(const T& x) {
  return detail::map(x, [](float v) { return std::round(v); });
}
template <detail::FloatOrVector T>
auto rint(const T& x) {
  return detail::map(x, [](float v) { return std::nearbyint(v); });
}
template <detail::FloatOrVector T>
auto fract(const T& x) {
  return detail::map(x, [](float v) { return std::fmin(v - std::floor(v), 0x1.fffffep-1f); });
}
template <detail::FloatOrVector T>
auto fabs(const T& x) {
  return detail::map(x, [](float v) { return std::fabs(v); });
}
template <detail::FloatOrVector T>
auto sign(const T& x) {
  return detail::map(x, [](float v) {
    return v > 0.0f ? 1.0f : v < 0.0f ? -1.0f : std::isnan(v) ? 0.0f : v;
  });
}
template <detail::FloatOrVector T>
auto saturate(const T& x) {
  return detail::map(x, [](float v) { return std::fmin(std::fmax(v, 0.0f), 1.0f); });
}
template <detail::FloatOrVector T>
auto isnan(const T& x) {
  return detail::test(x, [](float v) { return std::isnan(v); });
}
template <detail::FloatOrVector T>
auto isinf(const T& x) {
  return detail::test(x, [](float v) { return std::isinf(v); });
}
template <detail::FloatOrVector T>
auto isfinite(const T& x) {
  return detail::test(x, [](float v) { return std::isfinite(v); });
}
template <detail::FloatOrVector T>
auto signbit(const T& x) {
  return detail::test(x, [](float v) { return std::signbit(v); });
}

template <detail::ScalarOrVector T>
auto abs(const T& x) {
  if constexpr (detail::FloatOrVector<T>) {
    return fabs(x);
  } else if constexpr (detail::AnyVector<T>) {
    return detail::each(x, [](auto e) { return static_cast<decltype(e)>(e < 0 ? -e : e); });
  } else {
    return static_cast<T>(x < T{0} ? -x : x);
  }
}

template <class A, class B>
requires detail::Alike<A, B>
auto min(const A& a, const B& b) {
  return detail::map2(a, b, [](auto x, auto y) { return detail::smaller(x, y); });
}
template <class A, class B>
requires detail::Alike<A, B>
auto max(const A& a, const B& b) {
  return detail::map2(a, b, [](auto x, auto y) { return detail::larger(x, y); });
}
template <class A, class B>
requires detail::FloatAlike<A, B>
auto fmin(const A& a, const B& b) {
  return detail::map2(a, b, [](auto x, auto y) { return detail::smaller(x, y); });
}
template <class A, class B>
requires detail::FloatAlike<A, B>
auto fmax(const A& a, const B& b) {
  return detail::map2(a, b, [](auto x, auto y) { return detail::larger(x, y); });
}
template <class T>
auto max3(T a, T b, T c) {
  return metal::max(metal::max(a, b), c);
}
template <class T>
auto min3(T a, T b, T c) {
  return metal::min(metal::min(a, b), c);
}
template <class A, class B, class C>
requires(detail::Alike<A, B>&& detail::Alike<A, C>) auto clamp(const A& x, const B& low, const C& high) {
  return metal::min(metal::max(x, low), high);
}
template <class A, class B>
requires detail::FloatAlike<A, B>
auto pow(const A& a, const B& b) {
  return detail::map2(a, b,
                      [](auto x, auto y) { return std::pow(static_cast<float>(x), static_cast<float>(y)); });
}
/// pow for a base of at least zero.
template <class A, class B>
requires detail::FloatAlike<A, B>
auto powr(const A& a, const B& b) {
  return detail::map2(a, b, [](auto x, auto y) {
    return static_cast<float>(x) < 0.0f ? NAN : std::pow(static_cast<float>(x), static_cast<float>(y));
  });
}
template <class A, class B>
requires detail::FloatAlike<A, B>
auto fmod(const A& a, const B& b) {
  return detail::map2(a, b,
                      [](auto x, auto y) { return std::fmod(static_cast<float>(x), static_cast<float>(y)); });
}
template <class A, class B>
requires detail::FloatAlike<A, B>
auto atan2(const A& a, const B& b) {
  return detail::map2(
      a, b, [](auto x, auto y) { return std::atan2(static_cast<float>(x), static_cast<float>(y)); });
}
template <class A, class B>
requires detail::FloatAlike<A, B>
auto copysign(const A& a, const B& b) {
  return detail::map2(
      a, b, [](auto x, auto y) { return std::copysign(static_cast<float>(x), static_cast<float>(y)); });
}
template <class A, class B>
requires detail::Alike<A, B>
auto step(const A& edge, const B& x) {
  return detail::map2(edge, x, [](auto e, auto v) { return v < e ? 0.0f : 1.0f; });
}
template <Floating T>
T ldexp(T x, int exponent) {
  return T(std::ldexp(static_cast<float>(x), exponent));
}

/// a * b + c, rounded once.
inline float fma(float a, float b, float c) {
  return std::fma(a, b, c);
}
template <Small T>
T fma(T a, T b, T c) {
  // Exact in double up to what rounding to 11 bits can see.
  return T(static_cast<float>(static_cast<double>(static_cast<float>(a)) * static_cast<float>(b) +
                              static_cast<float>(c)));
}
template <detail::AnyVector V, class B, class C>
auto fma(const V& a, const B& b, const C& c) {
  using Vector = detail::vector_t<V>;
  const Vector x = detail::as<Vector>(a), y = detail::as<Vector>(b), z = detail::as<Vector>(c);
  Vector out;
  for (int i = 0; i < Vector::kSize; ++i) out[i] = metal::fma(x[i], y[i], z[i]);
  return out;
}
template <class T>
auto mad(const T& a, const T& b, const T& c) {
  return a * b + c;
}
template <class A, class B, class C>
auto mix(const A& x, const B& y, const C& a) {
  return x + (y - x) * a;
}
template <Floating T>
T smoothstep(T low, T high, T x) {
  const T t = metal::clamp((x - low) / (high - low), T(0.0f), T(1.0f));
  return t * t * (T(3.0f) - T(2.0f) * t);
}

/// condition ? b : a, per element where the condition is a vector.
template <Scalar T>
T select(T a, T b, bool condition) {
  return condition ? b : a;
}
template <detail::AnyVector A, class B, class C>
auto select(const A& a, const B& b, const C& condition) {
  using V = detail::vector_t<A>;
  const V no = detail::as<V>(a), yes = detail::as<V>(b);
  V out;
  if constexpr (detail::AnyVector<C>) {
    const auto mask = condition.as_vector();
    for (int i = 0; i < V::kSize; ++i) out[i] = mask[i] ? yes[i] : no[i];
  } else {
    out = condition ? yes : no;
  }
  return out;
}
template <detail::AnyVector V>
bool any(const V& v) {
  const auto x = v.as_vector();
  bool out = false;
  for (int i = 0; i < x.kSize; ++i) out = out || x[i];
  return out;
}
template <detail::AnyVector V>
bool all(const V& v) {
  const auto x = v.as_vector();
  bool out = true;
  for (int i = 0; i < x.kSize; ++i) out = out && x[i];
  return out;
}
inline bool any(bool v) {
  return v;
}
inline bool all(bool v) {
  return v;
}

template <detail::AnyVector A, detail::AnyVector B>
requires std::same_as<detail::vector_t<A>, detail::vector_t<B>>
auto dot(const A& a, const B& b) {
  const auto x = a.as_vector(), y = b.as_vector();
  auto sum = static_cast<detail::element_t<A>>(x[0] * y[0]);
  for (int i = 1; i < x.kSize; ++i) sum = static_cast<detail::element_t<A>>(sum + x[i] * y[i]);
  return sum;
}
template <detail::AnyVector A>
auto length_squared(const A& a) {
  return metal::dot(a, a);
}
template <detail::AnyVector A>
auto length(const A& a) {
  return metal::sqrt(metal::dot(a, a));
}
template <detail::AnyVector A>
auto distance(const A& a, const A& b) {
  return metal::length(a - b);
}
template <detail::AnyVector A>
auto normalize(const A& a) {
  return a * metal::rsqrt(metal::dot(a, a));
}
template <detail::AnyVector A>
auto cross(const A& a, const A& b) {
  const auto x = a.as_vector(), y = b.as_vector();
  return detail::vector_t<A>(x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]);
}

template <Integer T>
T popcount(T x) {
  return static_cast<T>(std::popcount(static_cast<std::make_unsigned_t<T>>(x)));
}
template <Integer T>
T clz(T x) {
  return static_cast<T>(std::countl_zero(static_cast<std::make_unsigned_t<T>>(x)));
}
template <Integer T>
T ctz(T x) {
  return static_cast<T>(std::countr_zero(static_cast<std::make_unsigned_t<T>>(x)));
}
template <Integer T>
T mulhi(T a, T b) {
  if constexpr (sizeof(T) == 8) {
    __extension__ using Wide = std::conditional_t<std::signed_integral<T>, __int128, unsigned __int128>;
    return static_cast<T>(static_cast<Wide>(a) * b >> 64);
  } else {
    using Wide = std::conditional_t<std::signed_integral<T>, std::int64_t, std::uint64_t>;
    return static_cast<T>(static_cast<Wide>(a) * b >> (8 * sizeof(T)));
  }
}
template <Integer T>
T rotate(T x, T n) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(std::rotl(static_cast<U>(x), static_cast<int>(static_cast<U>(n) % (8 * sizeof(T)))));
}
template <Integer T>
T extract_bits(T x, uint offset, uint bits) {
  using U = std::make_unsigned_t<T>;
  if (bits == 0) return 0;
  const uint unused = 8 * sizeof(T) - bits;
  return static_cast<T>(static_cast<T>(static_cast<U>(x) << (unused - offset)) >> unused);
}
template <Integer T>
T reverse_bits(T x) {
  T out = 0;
  for (std::size_t i = 0; i < 8 * sizeof(T); ++i) out = static_cast<T>(out << 1 | (x >> i & 1));
  return out;
}

// Both are here what the plain functions are.
namespace precise {
using metal::acos, metal::asin, metal::atan, metal::atan2, metal::ceil, metal::clamp, metal::cos, metal::cosh,
    metal::exp, metal::exp10, metal::exp2, metal::fabs, metal::floor, metal::fma, metal::fmax, metal::fmin,
    metal::fmod, metal::log, metal::log10, metal::log2, metal::max, metal::min, metal::pow, metal::powr,
    metal::rint, metal::round, metal::rsqrt, metal::sin, metal::sinh, metal::sqrt, metal::tan, metal::tanh,
    metal::trunc;
/// x / y, correctly rounded.
template <Floating T>
T divide(T x, T y) {
  return x / y;
}
}  // namespace precise
namespace fast {
using namespace precise;
}  // namespace fast

}  // namespace metal
