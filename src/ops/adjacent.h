#pragma once

#include <span>
#include <vector>

#include <candela/core/tensor.h>

/// Tensors that lie side by side in one: projections with one packed output, and its gradient.
namespace candela {

/// The tensor that `parts` make along `dim`, as a view, if each begins where the one before it ends in one
/// storage; undefined otherwise.
Tensor enclosing(std::span<const Tensor> parts, int dim);

/// concat(parts, dim), without a copy where they lie side by side.
Tensor joined(std::span<const Tensor> parts, int dim);

/// Uninitialised tensors of the shapes and dtypes of `parts`: row-major, but side by side along `dim` in one
/// row-major tensor where the parts are so.
std::vector<Tensor> empty_beside(std::span<const Tensor> parts, int dim);

}  // namespace candela
