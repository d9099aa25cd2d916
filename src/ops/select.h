#pragma once

#include <candela/core/tensor.h>

namespace candela {

/// x where mask is not 0, and 0 elsewhere: unlike in a product, whatever x is there. x and mask broadcast;
/// floating, one dtype and device. Outside autograd.
Tensor select(const Tensor& x, const Tensor& mask);

}  // namespace candela
