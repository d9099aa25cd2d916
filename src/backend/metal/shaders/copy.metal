#include "loops.h"

using namespace candela::shader;

/// The ends of an integer type, and the first float beyond it.
template <class T>
struct Range;
template <>
struct Range<uchar> {
  static long low() { return 0; }
  static long high() { return 255; }
  static float beyond() { return 256.0f; }
};
template <>
struct Range<int> {
  static long low() { return -2147483648L; }
  static long high() { return 2147483647L; }
  static float beyond() { return 2147483648.0f; }
};
template <>
struct Range<long> {
  static long low() { return -9223372036854775807L - 1; }
  static long high() { return 9223372036854775807L; }
  static float beyond() { return 9223372036854775808.0f; }
};

/// Into an integer type: fractions are cut off, what is beyond the range becomes its end, NaN becomes 0.
template <class To>
inline To saturate_to(float x) {
  if (isnan(x)) return 0;
  if (x >= Range<To>::beyond()) return static_cast<To>(Range<To>::high());
  if (x < static_cast<float>(Range<To>::low())) return static_cast<To>(Range<To>::low());
  return static_cast<To>(x);
}
template <class To>
inline To saturate_to(long x) {
  if (x > Range<To>::high()) return static_cast<To>(Range<To>::high());
  if (x < Range<To>::low()) return static_cast<To>(Range<To>::low());
  return static_cast<To>(x);
}

/// What a value is converted by way of: float for floats, long for integers.
inline float widen(float x) {
  return x;
}
inline float widen(half x) {
  return to_float(x);
}
inline float widen(bf16 x) {
  return to_float(x);
}
inline long widen(long x) {
  return x;
}
inline long widen(int x) {
  return x;
}
inline long widen(uchar x) {
  return x;
}

/// Between any two element types.
template <class To>
struct Convert {
  template <class Wide>
  static To run(Wide x) {
    return saturate_to<To>(x);
  }
};
template <>
struct Convert<float> {
  template <class Wide>
  static float run(Wide x) {
    return static_cast<float>(x);
  }
};
template <>
struct Convert<half> {
  template <class Wide>
  static half run(Wide x) {
    return from_float<half>(static_cast<float>(x));
  }
};
template <>
struct Convert<bf16> {
  template <class Wide>
  static bf16 run(Wide x) {
    return from_float<bf16>(static_cast<float>(x));
  }
};

template <class To, class From>
[[kernel]] void copy(device To* out [[buffer(0)]], device const From* x [[buffer(1)]],
                     constant LoopParams& loop [[buffer(2)]], uint2 at [[thread_position_in_grid]]) {
  out[loop_offset(loop, 0, at.y, at.x)] = Convert<To>::run(widen(x[loop_offset(loop, 1, at.y, at.x)]));
}

template <class T>
[[kernel]] void fill(device T* out [[buffer(0)]], constant FillParams& p [[buffer(1)]],
                     uint2 at [[thread_position_in_grid]]) {
  out[loop_offset(p.loop, 0, at.y, at.x)] = Convert<T>::run(p.value);
}

template [[host_name("copy_f32_f32")]] [[kernel]] decltype(copy<float, float>) copy<float, float>;
template [[host_name("copy_f32_f16")]] [[kernel]] decltype(copy<float, half>) copy<float, half>;
template [[host_name("copy_f32_bf16")]] [[kernel]] decltype(copy<float, bf16>) copy<float, bf16>;
template [[host_name("copy_f32_i64")]] [[kernel]] decltype(copy<float, long>) copy<float, long>;
template [[host_name("copy_f32_i32")]] [[kernel]] decltype(copy<float, int>) copy<float, int>;
template [[host_name("copy_f32_u8")]] [[kernel]] decltype(copy<float, uchar>) copy<float, uchar>;
template [[host_name("copy_f16_f32")]] [[kernel]] decltype(copy<half, float>) copy<half, float>;
template [[host_name("copy_f16_f16")]] [[kernel]] decltype(copy<half, half>) copy<half, half>;
template [[host_name("copy_f16_bf16")]] [[kernel]] decltype(copy<half, bf16>) copy<half, bf16>;
template [[host_name("copy_f16_i64")]] [[kernel]] decltype(copy<half, long>) copy<half, long>;
template [[host_name("copy_f16_i32")]] [[kernel]] decltype(copy<half, int>) copy<half, int>;
template [[host_name("copy_f16_u8")]] [[kernel]] decltype(copy<half, uchar>) copy<half, uchar>;
template [[host_name("copy_bf16_f32")]] [[kernel]] decltype(copy<bf16, float>) copy<bf16, float>;
template [[host_name("copy_bf16_f16")]] [[kernel]] decltype(copy<bf16, half>) copy<bf16, half>;
template [[host_name("copy_bf16_bf16")]] [[kernel]] decltype(copy<bf16, bf16>) copy<bf16, bf16>;
template [[host_name("copy_bf16_i64")]] [[kernel]] decltype(copy<bf16, long>) copy<bf16, long>;
template [[host_name("copy_bf16_i32")]] [[kernel]] decltype(copy<bf16, int>) copy<bf16, int>;
template [[host_name("copy_bf16_u8")]] [[kernel]] decltype(copy<bf16, uchar>) copy<bf16, uchar>;
template [[host_name("copy_i64_f32")]] [[kernel]] decltype(copy<long, float>) copy<long, float>;
template [[host_name("copy_i64_f16")]] [[kernel]] decltype(copy<long, half>) copy<long, half>;
template [[host_name("copy_i64_bf16")]] [[kernel]] decltype(copy<long, bf16>) copy<long, bf16>;
template [[host_name("copy_i64_i64")]] [[kernel]] decltype(copy<long, long>) copy<long, long>;
template [[host_name("copy_i64_i32")]] [[kernel]] decltype(copy<long, int>) copy<long, int>;
template [[host_name("copy_i64_u8")]] [[kernel]] decltype(copy<long, uchar>) copy<long, uchar>;
template [[host_name("copy_i32_f32")]] [[kernel]] decltype(copy<int, float>) copy<int, float>;
template [[host_name("copy_i32_f16")]] [[kernel]] decltype(copy<int, half>) copy<int, half>;
template [[host_name("copy_i32_bf16")]] [[kernel]] decltype(copy<int, bf16>) copy<int, bf16>;
template [[host_name("copy_i32_i64")]] [[kernel]] decltype(copy<int, long>) copy<int, long>;
template [[host_name("copy_i32_i32")]] [[kernel]] decltype(copy<int, int>) copy<int, int>;
template [[host_name("copy_i32_u8")]] [[kernel]] decltype(copy<int, uchar>) copy<int, uchar>;
template [[host_name("copy_u8_f32")]] [[kernel]] decltype(copy<uchar, float>) copy<uchar, float>;
template [[host_name("copy_u8_f16")]] [[kernel]] decltype(copy<uchar, half>) copy<uchar, half>;
template [[host_name("copy_u8_bf16")]] [[kernel]] decltype(copy<uchar, bf16>) copy<uchar, bf16>;
template [[host_name("copy_u8_i64")]] [[kernel]] decltype(copy<uchar, long>) copy<uchar, long>;
template [[host_name("copy_u8_i32")]] [[kernel]] decltype(copy<uchar, int>) copy<uchar, int>;
template [[host_name("copy_u8_u8")]] [[kernel]] decltype(copy<uchar, uchar>) copy<uchar, uchar>;
template [[host_name("fill_f32")]] [[kernel]] decltype(fill<float>) fill<float>;
template [[host_name("fill_f16")]] [[kernel]] decltype(fill<half>) fill<half>;
template [[host_name("fill_bf16")]] [[kernel]] decltype(fill<bf16>) fill<bf16>;
template [[host_name("fill_i64")]] [[kernel]] decltype(fill<long>) fill<long>;
template [[host_name("fill_i32")]] [[kernel]] decltype(fill<int>) fill<int>;
template [[host_name("fill_u8")]] [[kernel]] decltype(fill<uchar>) fill<uchar>;
