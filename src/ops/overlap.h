#pragma once

#include <candela/core/tensor.h>

namespace candela {

/// x as it is while `target`, of the same shape, is written element by element: a copy where elements of x
/// are others of target's too.
Tensor unaffected_by(const Tensor& target, const Tensor& x);

}  // namespace candela
