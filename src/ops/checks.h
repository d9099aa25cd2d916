#pragma once

#include <initializer_list>
#include <string_view>

#include <candela/core/tensor.h>

/// The checks at the door: every op validates its arguments here, once, before any kernel sees them.
namespace candela {

/// All defined tensors lie on the device of the first; returns it.
inline Device check_same_device(std::string_view op, std::initializer_list<Tensor> tensors) {
  const Tensor* first = nullptr;
  for (const Tensor& tensor : tensors) {
    if (!tensor.defined()) continue;
    if (first == nullptr) first = &tensor;
    require(tensor.device() == first->device(), "{}: all tensors must be on one device; got {} and {}", op,
            first->device(), tensor.device());
  }
  require(first != nullptr, "{}: needs a tensor; got an undefined one", op);
  return first->device();
}

inline void check_defined(std::string_view op, std::string_view name, const Tensor& tensor) {
  require(tensor.defined(), "{}: {} must be a tensor; got an undefined one", op, name);
}

inline void check_floating(std::string_view op, std::string_view name, const Tensor& tensor) {
  check_defined(op, name, tensor);
  require(is_floating(tensor.dtype()), "{}: {} must be a floating point tensor; got {}", op, name, tensor);
}

inline void check_index(std::string_view op, std::string_view name, const Tensor& tensor) {
  check_defined(op, name, tensor);
  require(tensor.dtype() == DType::I32 || tensor.dtype() == DType::I64, "{}: {} must be i32 or i64; got {}",
          op, name, tensor);
}

inline void check_same_dtype(std::string_view op, const Tensor& a, const Tensor& b) {
  require(a.dtype() == b.dtype(), "{}: dtypes must match; got {} and {}; cast() one of them", op,
          to_string(a.dtype()), to_string(b.dtype()));
}

/// What is written in place must have a place of its own for every element: no broadcast target.
inline void check_writable(std::string_view op, std::string_view name, const Tensor& tensor) {
  check_defined(op, name, tensor);
  require(
      !tensor.layout().may_overlap(),
      "{}: elements of {} must not share memory, as those of a broadcast tensor do; got {} with strides {}; "
      "clone() it",
      op, name, tensor.shape(), tensor.strides());
}

/// The product of all sizes but the last: the rows that an op on the last dimension works on.
inline std::int64_t row_count(const Tensor& x) {
  std::int64_t rows = 1;
  for (int d = 0; d + 1 < x.rank(); ++d) rows *= x.shape()[d];
  return rows;
}

}  // namespace candela
