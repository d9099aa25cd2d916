#pragma once

#include <cstdint>

#include "backend/args/tensor_arg.h"
#include "backend/cuda/kernels/params.h"
#include "backend/layout.h"

/// From the arguments of ops to what kernels are given.
namespace candela::cuda {

static_assert(static_cast<int>(Type::F32) == static_cast<int>(DType::F32) &&
              static_cast<int>(Type::BF16) == static_cast<int>(DType::BF16) &&
              static_cast<int>(Type::F16) == static_cast<int>(DType::F16) &&
              static_cast<int>(Type::I64) == static_cast<int>(DType::I64) &&
              static_cast<int>(Type::I32) == static_cast<int>(DType::I32) &&
              static_cast<int>(Type::U8) == static_cast<int>(DType::U8) &&
              static_cast<int>(Type::F64) == static_cast<int>(DType::F64) && kMaxDims == kMaxRank);

inline Type type_of(const TensorArg& x) {
  return static_cast<Type>(x.dtype);
}
inline Type type_of(DType dtype) {
  return static_cast<Type>(dtype);
}

/// f32, bf16, f16: what kernels compute with.
inline bool is_kernel_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16;
}
inline std::string refuse_other_floats(const TensorArg& x) {
  return is_kernel_float(x.dtype) ? "" : "takes f32, bf16 and f16";
}

template <int N>
LoopParams<N> loop_params(const TensorArg (&operands)[N]) {
  const Loops<N> loops(operands);
  LoopParams<N> params;
  params.rank = loops.rank;
  params.inner = loops.inner();
  params.outer = loops.outer();
  for (int d = 0; d < loops.rank; ++d) params.shape[d] = loops.shape[d];
  for (int n = 0; n < N; ++n) {
    params.data[n] = operands[n].data;
    for (int d = 0; d < loops.rank; ++d) params.strides[n][d] = loops.strides[n][d];
  }
  return params;
}

/// Rows along `dim`, of operand 0's sizes; the other dimensions merge where every operand steps through them
/// evenly. Operands may differ in their size along `dim`.
template <int N>
RowParams<N> row_params(const TensorArg (&operands)[N], int dim) {
  RowParams<N> params;
  const TensorArg& first = operands[0];
  params.length = first.rank == 0 ? 1 : first.shape[dim];
  params.count = 1;
  for (int d = 0; d < first.rank; ++d) {
    if (d == dim || first.shape[d] == 1) continue;
    params.count *= first.shape[d];
    bool merge = params.rank > 0;
    for (int n = 0; n < N && merge; ++n)
      merge = params.strides[n][params.rank - 1] == operands[n].strides[d] * first.shape[d];
    if (!merge) ++params.rank;
    const int at = params.rank - 1;
    params.shape[at] = merge ? params.shape[at] * first.shape[d] : first.shape[d];
    for (int n = 0; n < N; ++n) params.strides[n][at] = operands[n].strides[d];
  }
  const auto width = static_cast<std::int64_t>(size_of(first.dtype));
  const std::int64_t unit = 16 / width;
  params.packed = params.length % unit == 0;
  for (int n = 0; n < N; ++n) {
    params.data[n] = operands[n].data;
    params.step[n] = operands[n].rank == 0 ? 1 : operands[n].strides[dim];
    params.packed = params.packed && params.step[n] == 1 && operands[n].dtype == first.dtype &&
                    reinterpret_cast<std::uintptr_t>(operands[n].data) % 16 == 0;
    for (int d = 0; d < params.rank; ++d) params.packed = params.packed && params.strides[n][d] % unit == 0;
  }
  return params;
}

inline MatrixParams matrix_params(const TensorArg& x) {
  return {x.data,
          type_of(x),
          x.shape[x.rank - 2],
          x.shape[x.rank - 1],
          x.strides[x.rank - 2],
          x.strides[x.rank - 1]};
}

/// A matrix with its dimensions swapped.
inline TensorArg swapped(TensorArg x) {
  std::swap(x.shape[x.rank - 1], x.shape[x.rank - 2]);
  std::swap(x.strides[x.rank - 1], x.strides[x.rank - 2]);
  return x;
}

/// Columns [first, first + count) of a matrix.
inline TensorArg columns_of(TensorArg x, std::int64_t first, std::int64_t count) {
  const std::int64_t by = first * x.strides[x.rank - 1];
  x.data = static_cast<std::byte*>(x.data) + by * static_cast<std::int64_t>(size_of(x.dtype));
  x.offset += by;
  x.shape[x.rank - 1] = count;
  return x;
}

/// Rows [first, first + count) of a matrix.
inline TensorArg rows_of(TensorArg x, std::int64_t first, std::int64_t count) {
  return swapped(columns_of(swapped(x), first, count));
}

/// A row-major matrix over device memory that no storage stands for.
inline TensorArg matrix_over(void* data, DType dtype, std::int64_t rows, std::int64_t columns,
                             std::int64_t row_stride) {
  TensorArg x;
  x.data = data;
  x.dtype = dtype;
  x.rank = 2;
  x.shape[0] = rows;
  x.shape[1] = columns;
  x.strides[0] = row_stride;
  x.strides[1] = 1;
  return x;
}

}  // namespace candela::cuda
