#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// Rows: x, out, residual, sum; the last two stand for x where there is none (`added` false). weight is
/// [length], steps of weight_step; rstd f32 [count] or null.
struct RmsNormParams {
  RowParams<4> rows;
  const void* weight;
  std::int64_t weight_step;
  float* rstd;
  /// the factor is weight + weight_offset
  float eps, weight_offset;
  bool added;
};
cudaError_t launch_rms_norm(const RmsNormParams& params, Type type, cudaStream_t stream);

/// Rows: h, dy, dx, dsum (stands for h where there is none).
struct RmsNormGradParams {
  RowParams<4> rows;
  const void* weight;
  std::int64_t weight_step;
  const float* rstd;
  float eps, weight_offset;
  bool has_dsum;
};
cudaError_t launch_rms_norm_grad(const RmsNormGradParams& params, Type type, cudaStream_t stream);

/// Rows: x, out. weight and bias may be null; mean, rstd f32 [count] or null.
struct LayerNormParams {
  RowParams<2> rows;
  const void* weight;
  const void* bias;
  std::int64_t weight_step, bias_step;
  float* mean;
  float* rstd;
  float eps;
};
cudaError_t launch_layer_norm(const LayerNormParams& params, Type type, cudaStream_t stream);

/// Rows: x, dy, dx. `residuals` f32 [count]: what the exact mean has beyond the one kept, for the column
/// sums.
struct LayerNormGradParams {
  RowParams<3> rows;
  const void* weight;
  std::int64_t weight_step;
  const float* mean;
  const float* rstd;
  float* residuals;
};
cudaError_t launch_layer_norm_grad(const LayerNormGradParams& params, Type type, cudaStream_t stream);

/// Gradients of what all rows share, added to dweight and dbias (f32, either may be null): dweight += sum
/// over rows of dy (x - mean) rstd, dbias += sum of dy; mean and its residuals null for RMS norm. `partial`
/// f32 [column_parts(count), 2, length].
struct NormColumnParams {
  /// x, dy
  RowParams<2> rows;
  const float* mean;
  const float* residuals;
  const float* rstd;
  float* dweight;
  float* dbias;
  std::int64_t dweight_step, dbias_step;
  float* partial;
};
std::int64_t norm_column_parts(std::int64_t rows);
cudaError_t launch_norm_columns(const NormColumnParams& params, Type type, cudaStream_t stream);

}  // namespace candela::cuda
