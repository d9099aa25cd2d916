#pragma once

#include <candela/core/tensor.h>

namespace candela {

/// a [..., M, K] times b [..., K, N] -> [..., M, N]; leading dimensions broadcast. f32, bf16, f16 (f64 as
/// reference); a and b of one dtype. Transposed operands (views whose last two dimensions are swapped) are
/// multiplied without a copy. Accumulates in f32. Gradient: da = dy b^T, db = a^T dy. InvalidArgument if the
/// inner sizes, leading dimensions, dtypes or devices do not fit.
Tensor matmul(const Tensor& a, const Tensor& b);

/// alpha a b + beta c; c has the result's shape and dtype, or is undefined: then beta c is nothing. The rest
/// as above. Gradients for a, b and c.
Tensor matmul(const Tensor& a, const Tensor& b, const Tensor& c, double alpha, double beta);

/// y = x weight^T + bias: x [..., I], weight [O, I], bias [O] or undefined -> [..., O]. Gradients for all
/// three.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

}  // namespace candela
