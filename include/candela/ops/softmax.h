#pragma once

#include <candela/core/tensor.h>

namespace candela {

/// exp(x) / sum(exp(x)) along `dim`, computed after subtracting the maximum. Gradient.
Tensor softmax(const Tensor& x, int dim = -1);
/// x - log(sum(exp(x))) along `dim`. Gradient.
Tensor log_softmax(const Tensor& x, int dim = -1);

}  // namespace candela
