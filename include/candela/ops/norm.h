#pragma once

#include <utility>

#include <candela/core/tensor.h>

namespace candela {

/// x / sqrt(mean(x^2) + eps) (weight + weight_offset) over the last dimension (Zhang & Sennrich, 2019). x
/// [..., D], weight [D]; one dtype: f32, bf16 or f16 (f64 as reference); statistics in f32. Gradients for
/// both. InvalidArgument if weight does not match x. weight_offset is 1 where weights are stored as their
/// difference from 1 (Gemma).
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, double weight_offset = 0);

/// h = x + residual and rms_norm(h), fused; returns {h, normed}. x, residual [..., D], weight [D];
/// the rest as rms_norm. Gradients for all three.
std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                       double eps, double weight_offset = 0);

/// (x - mean) / sqrt(var + eps) weight + bias over the last dimension (Ba et al., 2016). weight, bias [D] or
/// undefined; dtypes and errors as rms_norm. Gradients for all.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps);

}  // namespace candela
