#include "loops.h"

using namespace candela::shader;

/// Between any two element types: floats become integers by truncation, 16-bit floats go by way of float.
template <class To, class From>
struct Convert {
  static To run(From x) { return static_cast<To>(x); }
};
template <class To>
struct Convert<To, half> {
  static To run(half x) { return static_cast<To>(static_cast<float>(x)); }
};
template <class To>
struct Convert<To, bf16> {
  static To run(bf16 x) { return static_cast<To>(to_float(x)); }
};
template <class From>
struct Convert<half, From> {
  static half run(From x) { return static_cast<half>(static_cast<float>(x)); }
};
template <class From>
struct Convert<bf16, From> {
  static bf16 run(From x) { return from_float<bf16>(static_cast<float>(x)); }
};
template <>
struct Convert<half, half> {
  static half run(half x) { return x; }
};
template <>
struct Convert<bf16, bf16> {
  static bf16 run(bf16 x) { return x; }
};
template <>
struct Convert<half, bf16> {
  static half run(bf16 x) { return static_cast<half>(to_float(x)); }
};
template <>
struct Convert<bf16, half> {
  static bf16 run(half x) { return from_float<bf16>(static_cast<float>(x)); }
};

template <class To, class From>
[[kernel]] void copy(device To* out [[buffer(0)]], device const From* x [[buffer(1)]],
                     constant LoopParams& loop [[buffer(2)]], uint2 at [[thread_position_in_grid]]) {
  out[loop_offset(loop, 0, at.y, at.x)] = Convert<To, From>::run(x[loop_offset(loop, 1, at.y, at.x)]);
}

template <class T>
[[kernel]] void fill(device T* out [[buffer(0)]], constant FillParams& p [[buffer(1)]],
                     uint2 at [[thread_position_in_grid]]) {
  out[loop_offset(p.loop, 0, at.y, at.x)] = Convert<T, float>::run(p.value);
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
