#pragma once

#include <candela/core/tensor.h>

namespace candela {

struct TopkResult {
  Tensor values;   ///< [..., k], falling
  Tensor indices;  ///< i32 [..., k]; the lower index first among equals
};

/// The k largest along the last dimension; NaN counts as largest. 1 <= k <= D. Gradient for x through the
/// values.
TopkResult topk(const Tensor& x, std::int64_t k);

}  // namespace candela
