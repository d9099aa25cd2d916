#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// out = alpha a b + beta out + bias: a [M, K], b [K, N], out [M, N] of any strides and floating types each,
/// for every index of the leading dimensions. Sums in f32.
struct MatmulParams {
  MatrixParams a, b, out;
  /// [N], of bias_type, steps of bias_step
  const void* bias = nullptr;
  Type bias_type = Type::F32;
  std::int64_t bias_step = 1;
  float alpha = 1, beta = 0;
  int batch_rank = 0;
  std::int64_t batch = 1;
  std::int64_t batch_shape[kMaxDims] = {};
  /// of a, b, out
  std::int64_t batch_strides[3][kMaxDims] = {};
};
cudaError_t launch_matmul(const MatmulParams& params, cudaStream_t stream);

}  // namespace candela::cuda
