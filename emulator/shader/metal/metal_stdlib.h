#pragma once
// What `#include <metal_stdlib>` and its sisters stand for when a shader runs on the CPU.

#include <cfloat>
#include <climits>

#include "atomic.h"
#include "math.h"
#include "matrix.h"
#include "pointer.h"
#include "scalar.h"
#include "simdgroup.h"
#include "simdgroup_matrix.h"
#include "vector.h"

namespace metal {

inline constexpr float M_E_F = 2.71828182845904523536028747135266250f;
inline constexpr float M_LOG2E_F = 1.44269504088896340735992468100189214f;
inline constexpr float M_LOG10E_F = 0.434294481903251827651128918916605082f;
inline constexpr float M_LN2_F = 0.693147180559945309417232121458176568f;
inline constexpr float M_LN10_F = 2.30258509299404568401799145468436421f;
inline constexpr float M_PI_F = 3.14159265358979323846264338327950288f;
inline constexpr float M_PI_2_F = 1.57079632679489661923132169163975144f;
inline constexpr float M_PI_4_F = 0.785398163397448309615660845819875721f;
inline constexpr float M_1_PI_F = 0.318309886183790671537767526745028724f;
inline constexpr float M_2_PI_F = 0.636619772367581343075535053490057448f;
inline constexpr float M_2_SQRTPI_F = 1.12837916709551257389615890312154517f;
inline constexpr float M_SQRT2_F = 1.41421356237309504880168872420969808f;
inline constexpr float M_SQRT1_2_F = 0.707106781186547524400844362104849039f;
inline const half HALF_MAX = half::from_bits(0x7bff);
inline const half HALF_MIN = half::from_bits(0x0400);
inline const half HALF_EPSILON = half::from_bits(0x1400);
inline const half M_PI_H = half(M_PI_F);

template <class T>
struct numeric_limits;
template <>
struct numeric_limits<float> {
  static constexpr float max() { return FLT_MAX; }
  static constexpr float min() { return FLT_MIN; }
  static constexpr float lowest() { return -FLT_MAX; }
  static constexpr float infinity() { return INFINITY; }
  static constexpr float epsilon() { return FLT_EPSILON; }
  static constexpr float quiet_NaN() { return NAN; }
};
template <>
struct numeric_limits<half> {
  static constexpr half max() { return half::from_bits(0x7bff); }
  static constexpr half min() { return half::from_bits(0x0400); }
  static constexpr half lowest() { return half::from_bits(0xfbff); }
  static constexpr half infinity() { return half::from_bits(0x7c00); }
  static constexpr half epsilon() { return half::from_bits(0x1400); }
  static constexpr half quiet_NaN() { return half::from_bits(0x7e00); }
};
template <>
struct numeric_limits<bfloat> {
  static constexpr bfloat max() { return bfloat::from_bits(0x7f7f); }
  static constexpr bfloat min() { return bfloat::from_bits(0x0080); }
  static constexpr bfloat lowest() { return bfloat::from_bits(0xff7f); }
  static constexpr bfloat infinity() { return bfloat::from_bits(0x7f80); }
  static constexpr bfloat epsilon() { return bfloat::from_bits(0x3c00); }
  static constexpr bfloat quiet_NaN() { return bfloat::from_bits(0x7fc0); }
};
template <Integer T>
struct numeric_limits<T> {
  static constexpr T max() {
    return static_cast<T>(std::signed_integral<T> ? (std::make_unsigned_t<T>(~T{0}) >> 1) : ~T{0});
  }
  static constexpr T min() { return std::signed_integral<T> ? static_cast<T>(-max() - 1) : T{0}; }
  static constexpr T lowest() { return min(); }
};

// The part of the type traits that the language has.
using std::bool_constant;
using std::conditional;
using std::conditional_t;
using std::decay;
using std::decay_t;
using std::declval;
using std::enable_if;
using std::enable_if_t;
using std::false_type;
using std::integral_constant;
using std::is_base_of;
using std::is_base_of_v;
using std::is_const;
using std::is_const_v;
using std::is_convertible;
using std::is_convertible_v;
using std::is_integral;
using std::is_integral_v;
using std::is_pointer;
using std::is_pointer_v;
using std::is_reference;
using std::is_same;
using std::is_same_v;
using std::is_signed;
using std::is_signed_v;
using std::is_unsigned;
using std::is_unsigned_v;
using std::is_void;
using std::is_void_v;
using std::make_signed;
using std::make_unsigned;
using std::remove_const;
using std::remove_const_t;
using std::remove_cv;
using std::remove_cv_t;
using std::remove_reference;
using std::remove_reference_t;
using std::true_type;
template <class T>
struct is_floating_point : bool_constant<Floating<T>> {};
template <class T>
inline constexpr bool is_floating_point_v = Floating<T>;
/// The address space is part of checked pointers only.
template <class T>
using remove_addrspace_t = T;

/// A value that is the same in all lanes: here a value like any other.
template <class T>
using uniform = T;
template <class T>
constexpr T make_uniform(T value) {
  return value;
}

}  // namespace metal

#ifndef MAXFLOAT
#define MAXFLOAT FLT_MAX
#endif
#define MAXHALF ::metal::HALF_MAX
#define METAL_FUNC inline
