#pragma once

#include <candela/core/tensor.h>

namespace candela {

/// exp(x) / sum(exp(x)) along `dim`, computed after subtracting the maximum, in f32. x of any shape, f32,
/// bf16 or f16 (f64 as reference); the result has its dtype. A row of -inf alone gives NaN. Gradient. Throws
/// InvalidArgument for a dimension that x does not have.
Tensor softmax(const Tensor& x, int dim = -1);
/// x - log(sum(exp(x))) along `dim`; the rest as softmax.
Tensor log_softmax(const Tensor& x, int dim = -1);

}  // namespace candela
