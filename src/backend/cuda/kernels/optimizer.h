#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// AdamW in place over `count` contiguous elements (args/optimizer.h).
struct AdamwParams {
  void* param;
  const void* grad;
  float* m;
  float* v;
  std::int64_t count;
  float beta1, one_less_beta1, beta2, one_less_beta2, eps;
  /// in the order of AdamwFactor
  const float* factors;
};
cudaError_t launch_adamw(const AdamwParams& params, Type param, Type grad, cudaStream_t stream);

/// The factors of a step (args/optimizer.h).
struct AdamwFactorsParams {
  const float* loss;
  const float* squares;
  const float* learning_rate;
  float* updates;
  float* factors;
  double beta1, beta2, weight_decay, clip_norm;
};
cudaError_t launch_adamw_factors(const AdamwFactorsParams& params, cudaStream_t stream);

}  // namespace candela::cuda
