#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// AdamW in place over `count` contiguous elements (args/optimizer.h). The factors are made on the host in
/// double.
struct AdamwParams {
  void* param;
  const void* grad;
  float* m;
  float* v;
  std::int64_t count;
  float beta1, one_less_beta1, beta2, one_less_beta2, eps;
  /// 1 - lr weight_decay
  float keep;
  /// lr / (1 - beta1^step)
  float step_size;
  /// 1 / sqrt(1 - beta2^step)
  float root;
  float grad_scale;
};
cudaError_t launch_adamw(const AdamwParams& params, Type param, Type grad, cudaStream_t stream);

}  // namespace candela::cuda
