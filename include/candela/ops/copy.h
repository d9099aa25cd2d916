#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <candela/core/tensor.h>

/// Views, copies and conversions. Views share memory with x; all have gradients unless said otherwise. Any
/// dtype; InvalidArgument where shapes or dimensions do not fit. Dimensions may count from the end (-1 is the
/// last).
namespace candela {

/// x with another shape of as many elements, in row-major order; one size may be -1: inferred. A view where
/// the strides allow it, a copy otherwise.
Tensor reshape(const Tensor& x, const Shape& shape);
/// A view with dimensions a and b swapped.
Tensor transpose(const Tensor& x, int a, int b);
/// A view of elements [start, end) of `dim`; a negative index counts from the end.
Tensor slice(const Tensor& x, int dim, std::int64_t start, std::int64_t end);
/// Views of consecutive pieces of `dim`, of these sizes, which add up to x's. Gradient: the pieces' gradients
/// joined, without a copy where the ops that made them left them side by side.
std::vector<Tensor> split(const Tensor& x, int dim, std::span<const std::int64_t> sizes);
/// A view with sizes of 1 (and dimensions in front) repeated. Gradient: the sum over the repetitions.
Tensor broadcast_to(const Tensor& x, const Shape& shape);
/// Adds a dimension of size 1 at `dim`.
Tensor unsqueeze(const Tensor& x, int dim);

/// x itself if it is contiguous, a row-major copy otherwise.
Tensor contiguous(const Tensor& x);
/// Always a fresh row-major copy.
Tensor clone(const Tensor& x);
/// Conversion between any dtypes; x itself if it has that dtype already. Into an integer dtype, fractions are
/// cut off, values beyond its range become the nearest that it holds (-1 is 0 in u8), NaN becomes 0. Gradient
/// between floating dtypes; throws Unsupported where an integer one would cut it.
Tensor cast(const Tensor& x, DType dtype);
/// A copy on another device; x itself if it is there. Gradient.
Tensor to_device(const Tensor& x, Device device);
/// Joins tensors of one dtype and device, equal in all sizes but that of `dim`, along it.
Tensor concat(const std::vector<Tensor>& parts, int dim);

/// A tensor of any dtype whose elements are all `value`.
Tensor full(const Shape& shape, double value, DType dtype = DType::F32, Device device = Device::cpu());
inline Tensor zeros(const Shape& shape, DType dtype = DType::F32, Device device = Device::cpu()) {
  return full(shape, 0, dtype, device);
}
inline Tensor ones(const Shape& shape, DType dtype = DType::F32, Device device = Device::cpu()) {
  return full(shape, 1, dtype, device);
}
/// 0, 1, ..., count - 1.
Tensor arange(std::int64_t count, DType dtype = DType::I32, Device device = Device::cpu());

/// target = x in place, converted to target's dtype as by cast(); shapes equal. x may be a view of target's
/// memory: it is read as it was before. Throws Unsupported if autograd tracks target or x: no gradient could
/// follow; InvalidArgument if elements of target share memory.
void copy_(const Tensor& target, const Tensor& x);
/// target = value in place, under the same conditions.
void fill_(const Tensor& target, double value);

}  // namespace candela
