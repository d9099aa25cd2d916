#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// AdamW (Loshchilov & Hutter, 2019), in place, contiguous tensors of one shape. g = grad grad_scale;
/// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; param -= lr (weight_decay param + m_hat /
/// (sqrt(v_hat) + eps)), m_hat = m / (1 - beta1^step), v_hat = v / (1 - beta2^step). m, v f32; step counts
/// from 1.
struct AdamwArgs {
  TensorArg param, grad, m, v;
  double lr, beta1, beta2, eps, weight_decay, grad_scale;
  std::int64_t step;
};

}  // namespace candela
