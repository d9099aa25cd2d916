#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// The numbers of one AdamW step that all elements share, in the order in which an f32 tensor of them holds
/// them.
enum class AdamwFactor {
  /// 1: the step is done; 0: it changes nothing
  Apply,
  /// of the gradient, by clipping
  GradScale,
  /// 1 - lr weight_decay
  Keep,
  /// lr / (1 - beta1^step)
  StepSize,
  /// 1 / sqrt(1 - beta2^step)
  Root,
  Count
};
inline constexpr std::int64_t kAdamwFactors = static_cast<std::int64_t>(AdamwFactor::Count);

/// AdamW (Loshchilov & Hutter, 2019), in place, contiguous tensors of one shape. g = grad grad_scale;
/// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; param = keep param - step_size m / (root
/// sqrt(v) + eps). m, v f32; factors f32 [kAdamwFactors], read when the kernel runs.
struct AdamwArgs {
  TensorArg param, grad, m, v, factors;
  double beta1, beta2, eps;
};

/// Makes the factors of a step on the device. It is applied where loss[0] and squares[0], the sum of the
/// gradient's squares, are finite; then updates[0] += 1, and that is the step of the bias correction.
/// grad_scale = min(1, clip_norm / (sqrt(squares) + 1e-6)), 1 where clip_norm is 0. All f32 [1], factors f32
/// [kAdamwFactors].
struct AdamwFactorsArgs {
  TensorArg loss, squares, learning_rate, updates, factors;
  double beta1, beta2, weight_decay, clip_norm;
};

}  // namespace candela
