#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// x, out [B, T, H, D], unit last stride; cos, sin f32 [length, half]; positions i32 [B, T] by strides.
/// Rotates pairs (i, i + half), back where `inverse`; elements from 2 half on are copied.
struct RopeParams {
  const void* x;
  void* out;
  std::int64_t shape[4];
  std::int64_t x_strides[3], out_strides[3];
  const float* cos;
  const float* sin;
  /// strides of a row; the last one is 1
  std::int64_t cos_stride, sin_stride, half, length;
  const std::int32_t* positions;
  std::int64_t position_strides[2];
  bool inverse;
  Fault* fault;
};
cudaError_t launch_rope(const RopeParams& params, Type type, cudaStream_t stream);

}  // namespace candela::cuda
