#pragma once

#include <vector>

#include <candela/core/tensor.h>

/// Reductions of f32, bf16 and f16 (f64 as reference), in whose dtype the result comes but for argmax. `dims`
/// may be negative; an empty list means all dimensions. Accumulate in f32 (f64 for f64). All but argmax have
/// gradients: where x requires one, argmax throws Unsupported. InvalidArgument for a dimension that x does
/// not have, or an integer dtype.
namespace candela {

Tensor sum(const Tensor& x, const std::vector<int>& dims = {}, bool keep_dims = false);
Tensor mean(const Tensor& x, const std::vector<int>& dims = {}, bool keep_dims = false);
/// Sum of squares.
Tensor sum_squares(const Tensor& x, const std::vector<int>& dims = {}, bool keep_dims = false);
/// NaN wins. The gradient is shared evenly among equal extremes (all that are NaN, where one is); the rest
/// gets 0. Throws InvalidArgument for an empty reduction.
Tensor max(const Tensor& x, const std::vector<int>& dims = {}, bool keep_dims = false);
Tensor min(const Tensor& x, const std::vector<int>& dims = {}, bool keep_dims = false);
/// i64 position of the largest along `dim`, the first of equals; NaN counts as largest. Throws
/// InvalidArgument for an empty reduction.
Tensor argmax(const Tensor& x, int dim, bool keep_dim = false);
/// Sums x down to `shape`, which must broadcast to x's shape (InvalidArgument otherwise): the gradient of
/// broadcasting.
Tensor sum_to(const Tensor& x, const Shape& shape);

}  // namespace candela
