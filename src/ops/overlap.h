#pragma once

#include <candela/core/tensor.h>

namespace candela {

/// x as it is while `target`, of the same shape, is written element by element: a copy where the memory
/// between x's first and last element overlaps target's, unless each element lies on its own.
Tensor unaffected_by(const Tensor& target, const Tensor& x);

}  // namespace candela
