#pragma once

#include <candela/core/tensor.h>

namespace candela {

struct TopkResult {
  /// [..., k], falling
  Tensor values;
  /// i32 [..., k]; the lower index first among equals
  Tensor indices;
};

/// The k largest along the last dimension of x [..., D], f32, bf16 or f16 (f64 as reference), whose dtype the
/// values have; NaN counts as largest. Gradient for x through the values. Throws InvalidArgument unless k is
/// in [1, D].
TopkResult topk(const Tensor& x, std::int64_t k);

}  // namespace candela
