#pragma once
// Vectors of two to four scalars, with swizzles. An operation takes vectors of one element type, or one and a
// scalar, which is converted to the element type.

#include "../runtime/execution.h"
#include "scalar.h"

#pragma GCC system_header  // anonymous structs in unions, which every compiler of interest takes

namespace metal {

template <class T, int N>
struct vec;
template <class T, int N>
struct packed_vec;
template <class T, int... I>
struct swizzle;

namespace detail {

template <class V>
struct VectorTraits {
  static constexpr bool kIs = false;
};
template <class T, int N>
struct VectorTraits<vec<T, N>> {
  static constexpr bool kIs = true;
  static constexpr int kSize = N;
  using Element = T;
  using Vector = vec<T, N>;
};
template <class T, int N>
struct VectorTraits<packed_vec<T, N>> {
  static constexpr bool kIs = true;
  static constexpr int kSize = N;
  using Element = T;
  using Vector = vec<T, N>;
};
template <class T, int... I>
struct VectorTraits<swizzle<T, I...>> {
  static constexpr bool kIs = true;
  static constexpr int kSize = sizeof...(I);
  using Element = T;
  using Vector = vec<T, sizeof...(I)>;
};

template <class V>
concept AnyVector = VectorTraits<V>::kIs;
template <class V>
using vector_t = typename VectorTraits<V>::Vector;
template <class V>
using element_t = typename VectorTraits<V>::Element;

/// The number of scalars that a constructor argument brings.
template <class A>
constexpr int width() {
  if constexpr (AnyVector<A>) {
    return VectorTraits<A>::kSize;
  } else {
    return 1;
  }
}

template <class T, class... A>
void gather(T* out, const A&... parts) {
  const auto put = [&out](const auto& part) {
    if constexpr (AnyVector<std::remove_cvref_t<decltype(part)>>) {
      const auto v = part.as_vector();
      for (int i = 0; i < v.kSize; ++i) *out++ = static_cast<T>(v[i]);
    } else {
      *out++ = static_cast<T>(part);
    }
  };
  (put(parts), ...);
}

}  // namespace detail

/// Some elements of the vector it is a member of, in some order.
template <class T, int... I>
struct swizzle {
  using Vector = vec<T, sizeof...(I)>;
  T storage[((I > 2) || ...) ? 4 : ((I > 1) || ...) ? 3 : 2];

  Vector as_vector() const { return Vector(storage[I]...); }
  operator Vector() const { return as_vector(); }
  swizzle& operator=(const Vector& v) {
    const Vector copy = v;
    int i = 0;
    ((storage[I] = copy[i++]), ...);
    return *this;
  }
  swizzle& operator=(const swizzle& other) { return *this = other.as_vector(); }
  T operator[](int i) const { return as_vector()[i]; }
};

namespace detail {

template <int N, class T>
void copy(T* to, const T* from) {
  for (int i = 0; i < N; ++i) to[i] = from[i];
}

// A swizzle's assignment moves only its own elements, so that the union needs its copies spelled out.
template <class T, int N>
struct Storage;
template <class T>
struct Storage<T, 2> {
  Storage() = default;
  Storage(const Storage& other) { copy<2>(elements, other.elements); }
  Storage& operator=(const Storage& other) { return copy<2>(elements, other.elements), *this; }
  union {
    T elements[2];
    struct {
      T x, y;
    };
    struct {
      T r, g;
    };
    swizzle<T, 0, 1> xy, rg;
    swizzle<T, 1, 0> yx;
    swizzle<T, 0, 0> xx;
    swizzle<T, 1, 1> yy;
  };
};
template <class T>
struct Storage<T, 3> {
  Storage() = default;
  Storage(const Storage& other) { copy<3>(elements, other.elements); }
  Storage& operator=(const Storage& other) { return copy<3>(elements, other.elements), *this; }
  union {
    T elements[3];
    struct {
      T x, y, z;
    };
    struct {
      T r, g, b;
    };
    swizzle<T, 0, 1> xy, rg;
    swizzle<T, 0, 2> xz;
    swizzle<T, 1, 2> yz;
    swizzle<T, 1, 0> yx;
    swizzle<T, 2, 0> zx;
    swizzle<T, 2, 1> zy;
    swizzle<T, 0, 1, 2> xyz, rgb;
    swizzle<T, 2, 1, 0> zyx, bgr;
  };
};
template <class T>
struct Storage<T, 4> {
  Storage() = default;
  Storage(const Storage& other) { copy<4>(elements, other.elements); }
  Storage& operator=(const Storage& other) { return copy<4>(elements, other.elements), *this; }
  union {
    T elements[4];
    struct {
      T x, y, z, w;
    };
    struct {
      T r, g, b, a;
    };
    swizzle<T, 0, 1> xy, rg;
    swizzle<T, 0, 2> xz, rb;
    swizzle<T, 0, 3> xw;
    swizzle<T, 1, 2> yz;
    swizzle<T, 1, 3> yw, ga;
    swizzle<T, 2, 3> zw, ba;
    swizzle<T, 1, 0> yx;
    swizzle<T, 3, 2> wz;
    swizzle<T, 2, 0> zx;
    swizzle<T, 3, 1> wy;
    swizzle<T, 0, 1, 2> xyz, rgb;
    swizzle<T, 1, 2, 3> yzw, gba;
    swizzle<T, 0, 1, 2, 3> xyzw, rgba;
    swizzle<T, 3, 2, 1, 0> wzyx, abgr;
    swizzle<T, 1, 0, 3, 2> yxwz;
    swizzle<T, 2, 3, 0, 1> zwxy;
  };
};

}  // namespace detail

template <class T, int N>
struct alignas(sizeof(T) * (N == 3 ? 4 : N)) vec : detail::Storage<T, N> {
  static constexpr int kSize = N;
  using Element = T;

  vec() = default;
  /// A scalar becomes every element.
  template <class S>
  requires(Scalar<S>) vec(S value) {
    for (T& element : this->elements) element = static_cast<T>(value);
  }
  /// Scalars and vectors that bring N scalars together.
  template <class A, class B, class... More>
  requires((detail::width<A>() + detail::width<B>() + (0 + ... + detail::width<More>())) == N)
      vec(const A& a, const B& b, const More&... more) {
    detail::gather(this->elements, a, b, more...);
  }
  template <class U>
  requires(!std::same_as<T, U>) explicit vec(const vec<U, N>& other) {
    for (int i = 0; i < N; ++i) this->elements[i] = static_cast<T>(other.elements[i]);
  }
  template <class U, int... I>
  requires(sizeof...(I) == N && !std::same_as<T, U>) explicit vec(const swizzle<U, I...>& other)
      : vec(other.as_vector()) {}
  template <class U>
  requires(!std::same_as<T, U>) explicit vec(const packed_vec<U, N>& other) : vec(other.as_vector()) {}

  const vec& as_vector() const { return *this; }
  T& operator[](std::size_t i) {
    if (i >= N) [[unlikely]]
      out_of_range(i);
    return this->elements[i];
  }
  const T& operator[](std::size_t i) const {
    if (i >= N) [[unlikely]]
      out_of_range(i);
    return this->elements[i];
  }

 private:
  [[noreturn]] static void out_of_range(std::size_t i) {
    emulator::current_launch->fault("element " + std::to_string(static_cast<std::int64_t>(i)) +
                                    " of a vector of " + std::to_string(N));
  }
};

/// Vectors that are aligned like their elements: three floats take 12 bytes.
template <class T, int N>
struct packed_vec {
  T elements[N];
  packed_vec() = default;
  packed_vec(const vec<T, N>& v) { *this = v; }
  template <class A, class B, class... More>
  requires(sizeof...(More) + 2 == N) packed_vec(A a, B b, More... more)
      : packed_vec(vec<T, N>(a, b, more...)) {}
  packed_vec& operator=(const vec<T, N>& v) {
    for (int i = 0; i < N; ++i) elements[i] = v[i];
    return *this;
  }
  operator vec<T, N>() const { return as_vector(); }
  vec<T, N> as_vector() const {
    vec<T, N> out;
    for (int i = 0; i < N; ++i) out[i] = elements[i];
    return out;
  }
  T& operator[](std::size_t i) {
    check(i);
    return elements[i];
  }
  const T& operator[](std::size_t i) const {
    check(i);
    return elements[i];
  }

 private:
  static void check(std::size_t i) {
    if (i < N) [[likely]]
      return;
    emulator::current_launch->fault("element " + std::to_string(static_cast<std::int64_t>(i)) +
                                    " of a packed vector of " + std::to_string(N));
  }
};

namespace detail {

template <class A, class B>
concept VectorPair = (AnyVector<A> && AnyVector<B> && std::same_as<vector_t<A>, vector_t<B>>) ||
                     (AnyVector<A> && Scalar<B>) || (Scalar<A> && AnyVector<B>);
template <class A, class B>
struct PairVector {
  using Type = vector_t<A>;
};
template <Scalar A, class B>
struct PairVector<A, B> {
  using Type = vector_t<B>;
};
template <class A, class B>
using pair_t = typename PairVector<A, B>::Type;

template <class V, class A>
const V as(const A& a) {
  if constexpr (AnyVector<A>) {
    return a.as_vector();
  } else {
    return V(a);
  }
}

/// f over the elements of two operands of one vector type V, one of which may be a scalar.
template <class A, class B, class F>
auto zip(const A& a, const B& b, F f) {
  using V = pair_t<A, B>;
  const V left = as<V>(a), right = as<V>(b);
  vec<std::remove_cvref_t<decltype(f(left[0], right[0]))>, V::kSize> out;
  for (int i = 0; i < V::kSize; ++i) out.elements[i] = f(left.elements[i], right.elements[i]);
  return out;
}

template <class A, class F>
auto each(const A& a, F f) {
  const auto v = a.as_vector();
  vec<std::remove_cvref_t<decltype(f(v[0]))>, decltype(v)::kSize> out;
  for (int i = 0; i < v.kSize; ++i) out.elements[i] = f(v.elements[i]);
  return out;
}

}  // namespace detail

template <class A, class B>
requires detail::VectorPair<A, B>
auto operator+(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x + y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator-(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x - y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator*(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x * y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator/(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x / y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator%(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x % y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator&(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x & y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator|(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x | y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator^(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x ^ y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator<<(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x << y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator>>(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return static_cast<decltype(x)>(x >> y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator==(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return x == y; });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator!=(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return !(x == y); });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator<(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return x < y; });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator>(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return x > y; });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator<=(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return x <= y; });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator>=(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return x >= y; });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator&&(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return x && y; });
}
template <class A, class B>
requires detail::VectorPair<A, B>
auto operator||(const A& a, const B& b) {
  return detail::zip(a, b, [](auto x, auto y) { return x || y; });
}
template <detail::AnyVector A>
auto operator-(const A& a) {
  return detail::each(a, [](auto x) { return static_cast<decltype(x)>(-x); });
}
template <detail::AnyVector A>
auto operator+(const A& a) {
  return a.as_vector();
}
template <detail::AnyVector A>
auto operator~(const A& a) {
  return detail::each(a, [](auto x) { return static_cast<decltype(x)>(~x); });
}
template <detail::AnyVector A>
auto operator!(const A& a) {
  return detail::each(a, [](auto x) { return !x; });
}
template <detail::AnyVector A, class B>
requires detail::VectorPair<A, B> A& operator+=(A& a, const B& b) {
  return a = a + b;
}
template <detail::AnyVector A, class B>
requires detail::VectorPair<A, B> A& operator-=(A& a, const B& b) {
  return a = a - b;
}
template <detail::AnyVector A, class B>
requires detail::VectorPair<A, B> A& operator*=(A& a, const B& b) {
  return a = a * b;
}
template <detail::AnyVector A, class B>
requires detail::VectorPair<A, B> A& operator/=(A& a, const B& b) {
  return a = a / b;
}
template <detail::AnyVector A, class B>
requires detail::VectorPair<A, B> A& operator&=(A& a, const B& b) {
  return a = a & b;
}
template <detail::AnyVector A, class B>
requires detail::VectorPair<A, B> A& operator|=(A& a, const B& b) {
  return a = a | b;
}
template <detail::AnyVector A, class B>
requires detail::VectorPair<A, B> A& operator^=(A& a, const B& b) {
  return a = a ^ b;
}

using bool2 = vec<bool, 2>;
using bool3 = vec<bool, 3>;
using bool4 = vec<bool, 4>;
using char2 = vec<signed char, 2>;
using char3 = vec<signed char, 3>;
using char4 = vec<signed char, 4>;
using uchar2 = vec<uchar, 2>;
using uchar3 = vec<uchar, 3>;
using uchar4 = vec<uchar, 4>;
using short2 = vec<short, 2>;
using short3 = vec<short, 3>;
using short4 = vec<short, 4>;
using ushort2 = vec<ushort, 2>;
using ushort3 = vec<ushort, 3>;
using ushort4 = vec<ushort, 4>;
using int2 = vec<int, 2>;
using int3 = vec<int, 3>;
using int4 = vec<int, 4>;
using uint2 = vec<uint, 2>;
using uint3 = vec<uint, 3>;
using uint4 = vec<uint, 4>;
using long2 = vec<long, 2>;
using long3 = vec<long, 3>;
using long4 = vec<long, 4>;
using ulong2 = vec<ulong, 2>;
using ulong3 = vec<ulong, 3>;
using ulong4 = vec<ulong, 4>;
using half2 = vec<half, 2>;
using half3 = vec<half, 3>;
using half4 = vec<half, 4>;
using bfloat2 = vec<bfloat, 2>;
using bfloat3 = vec<bfloat, 3>;
using bfloat4 = vec<bfloat, 4>;
using float2 = vec<float, 2>;
using float3 = vec<float, 3>;
using float4 = vec<float, 4>;
using packed_char2 = packed_vec<signed char, 2>;
using packed_char4 = packed_vec<signed char, 4>;
using packed_uchar2 = packed_vec<uchar, 2>;
using packed_uchar4 = packed_vec<uchar, 4>;
using packed_short2 = packed_vec<short, 2>;
using packed_short4 = packed_vec<short, 4>;
using packed_ushort2 = packed_vec<ushort, 2>;
using packed_ushort4 = packed_vec<ushort, 4>;
using packed_int2 = packed_vec<int, 2>;
using packed_int3 = packed_vec<int, 3>;
using packed_int4 = packed_vec<int, 4>;
using packed_uint2 = packed_vec<uint, 2>;
using packed_uint3 = packed_vec<uint, 3>;
using packed_uint4 = packed_vec<uint, 4>;
using packed_half2 = packed_vec<half, 2>;
using packed_half3 = packed_vec<half, 3>;
using packed_half4 = packed_vec<half, 4>;
using packed_bfloat2 = packed_vec<bfloat, 2>;
using packed_bfloat4 = packed_vec<bfloat, 4>;
using packed_float2 = packed_vec<float, 2>;
using packed_float3 = packed_vec<float, 3>;
using packed_float4 = packed_vec<float, 4>;

}  // namespace metal
