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

/// The factors of a step, made on the device, so that the host need not know whether it is done: f32 [5] for
/// the adamw_step below. loss, squares, learning_rate and updates are f32 [1]; squares is the sum of the
/// gradient's squares. Where loss and squares are finite, updates[0] grows by 1 and counts as the step of the
/// bias correction (exact up to 2^24, where beta^step has vanished); else the step changes nothing. The
/// gradient is scaled to a norm of at most clip_norm, as torch.nn.utils.clip_grad_norm_ does; 0: not clipped.
/// options.lr and options.eps are not used. No gradient.
Tensor adamw_factors(const Tensor& loss, const Tensor& squares, const Tensor& learning_rate,
                     const Tensor& updates, const AdamwOptions& options, double clip_norm);

/// The step that `factors` of adamw_factors() describe; else as above. options.lr and options.weight_decay
/// are not used.
void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, const Tensor& factors);

/// Square root of the sum of squares over all elements of all tensors, of any dtype, added up in f32;
/// undefined ones are skipped, and 0 without elements or on the plan device. Reads the device once. Outside
/// autograd.
double global_norm(std::span<const Tensor> tensors);

}  // namespace candela
