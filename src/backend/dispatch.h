#pragma once

#include <type_traits>
#include <utility>

#include <candela/core/dtype.h>
#include <candela/core/error.h>

/// From a run-time dtype to a compile-time element type: `dispatch(dtype, "op", [&]<class T>() { ... })`.
namespace candela {

/// F32, BF16, F16.
template <class F>
auto dispatch_floating(DType dtype, std::string_view op, F&& body) {
  switch (dtype) {
    case DType::F32:
      return body.template operator()<float>();
    case DType::BF16:
      return body.template operator()<BFloat16>();
    case DType::F16:
      return body.template operator()<Float16>();
    default:
      throw Unsupported(fmt::format("{}: needs f32, bf16 or f16; got {}", op, to_string(dtype)));
  }
}

/// F32, BF16, F16, F64: the ops that references are made of.
template <class F>
auto dispatch_plain(DType dtype, std::string_view op, F&& body) {
  if (dtype == DType::F64) return body.template operator()<double>();
  return dispatch_floating(dtype, op, std::forward<F>(body));
}

/// I32, I64.
template <class F>
auto dispatch_index(DType dtype, std::string_view op, F&& body) {
  switch (dtype) {
    case DType::I32:
      return body.template operator()<std::int32_t>();
    case DType::I64:
      return body.template operator()<std::int64_t>();
    default:
      throw Unsupported(fmt::format("{}: indices must be i32 or i64; got {}", op, to_string(dtype)));
  }
}

/// Every dtype.
template <class F>
auto dispatch_all(DType dtype, std::string_view op, F&& body) {
  switch (dtype) {
    case DType::I64:
      return body.template operator()<std::int64_t>();
    case DType::I32:
      return body.template operator()<std::int32_t>();
    case DType::U8:
      return body.template operator()<std::uint8_t>();
    default:
      return dispatch_plain(dtype, op, std::forward<F>(body));
  }
}

/// The type arithmetic on T is done in: f32 for f32 and 16-bit floats, f64 for f64.
template <class T>
using AccumulatorOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

}  // namespace candela
