#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/args/tensor_arg.h"

namespace candela {

/// out = alpha a b + beta out, with a [..., M, K], b [..., K, N], out [..., M, N]; the leading dimensions are
/// equal (stride 0 where broadcast). Any strides: a transposed operand has its last two strides swapped. beta
/// = 0 does not read out. `bias` [N], optional, is added to every row. a and b share a dtype; out has that
/// dtype, or f32.
struct MatmulArgs {
  TensorArg a, b, out, bias;
  double alpha = 1, beta = 0;
};

/// One matrix: element (i, j) lies `i * row_stride + j * col_stride` elements after `data`. f32, bf16 or f16.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::F32;
  std::int64_t row_stride = 0, col_stride = 1;

  Matrix transposed() const { return {data, dtype, col_stride, row_stride}; }
  Matrix at(std::int64_t i, std::int64_t j) const {
    const auto bytes = (i * row_stride + j * col_stride) * static_cast<std::int64_t>(size_of(dtype));
    // There is no data while a workspace is measured.
    return {data == nullptr ? nullptr : static_cast<std::byte*>(data) + bytes, dtype, row_stride, col_stride};
  }
};

/// A vector that is added to every row of a product: absent if `data` is null.
struct RowBias {
  const void* data = nullptr;
  DType dtype = DType::F32;
  std::int64_t stride = 1;

  /// The bias of columns [first, ...).
  RowBias from(std::int64_t first) const {
    if (data == nullptr) return *this;
    return {static_cast<const std::byte*>(data) + first * stride * static_cast<std::int64_t>(size_of(dtype)),
            dtype, stride};
  }
};

/// c [m, n] = alpha a [m, k] b [k, n] + beta c + bias [n], one matrix each. The dtypes are free of each
/// other; sums are f32. beta = 0 does not read c.
struct GemmArgs {
  std::int64_t m = 0, n = 0, k = 0;
  Matrix a, b, c;
  double alpha = 1, beta = 0;
  RowBias bias;
};

}  // namespace candela
