#pragma once

#include <candela/core/tensor.h>

namespace candela {

/// Rows of weight [V, D] (f32, bf16, f16; f64 as reference) at ids (i32 or i64, any shape) -> [..., D]. Ids
/// outside [0, V) throw InvalidArgument. Gradient for weight.
Tensor embedding(const Tensor& weight, const Tensor& ids);

/// out[..., i, ...] = x[..., index[..., i, ...], ...] along `dim`; index (i32 or i64) has x's rank and its
/// sizes but for `dim`; x as weight above. An index outside [0, the size of `dim`), or shapes that do not
/// fit, throw InvalidArgument. Gradient for x.
Tensor gather(const Tensor& x, int dim, const Tensor& index);

}  // namespace candela
