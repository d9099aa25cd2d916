#pragma once

#include <candela/core/tensor.h>

namespace candela {

struct AdamwOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
};

/// One AdamW step in place (Loshchilov & Hutter, 2019), decoupled weight decay, bias correction by `step`
/// (from 1). param, grad: one shape, each f32, bf16 or f16 (f64 as reference); m, v f32 of that shape; param,
/// m and v contiguous. The gradient is multiplied by grad_scale first (clipping). No gradient flows through
/// it: throws Unsupported if param, m or v is the result of an op that autograd tracks. lr, weight_decay >=
/// 0, beta1, beta2 in [0, 1), eps > 0, step >= 1: InvalidArgument for what is out of range, and for shapes,
/// dtypes or devices that do not fit.
void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, std::int64_t step, double grad_scale = 1);

/// Square root of the sum of squares over all elements of all tensors, of any dtype, added up in f32;
/// undefined ones are skipped, and 0 without elements or on the plan device. Reads the device once. Outside
/// autograd.
double global_norm(std::span<const Tensor> tensors);

}  // namespace candela
