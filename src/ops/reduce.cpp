#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/reduce.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/select.h"

namespace candela {
namespace {

/// x's shape with 1 in the reduced dimensions (all of them if `dims` is empty).
Shape kept_shape(const char* name, const Tensor& x, const std::vector<int>& dims) {
  Shape shape = x.shape();
  if (dims.empty()) return Dims::filled(x.rank(), 1);
  for (const int dim : dims) shape[normalize_dim(dim, x.rank(), name)] = 1;
  return shape;
}

Tensor squeeze(const Tensor& x, const std::vector<int>& dims, bool keep_dims) {
  if (keep_dims) return x;
  Shape shape;
  for (int d = 0; d < x.rank(); ++d) {
    bool reduced = dims.empty();
    for (const int dim : dims) reduced = reduced || normalize_dim(dim, x.rank(), "reduce") == d;
    if (!reduced) shape.push_back(x.size(d));
  }
  return reshape(x, shape);
}

Tensor run_reduce(const char* name, ReduceOp op, const Tensor& x, const Shape& kept, double scale = 1) {
  check_floating(name, "x", x);
  Tensor out = Tensor::empty(kept, x.dtype(), x.device());
  if (out.numel() > 0) run(&KernelTable::reduce, x.device(), ReduceArgs{op, x, out, scale});
  return out;
}

/// scale times the sum of x over the dimensions where `kept` has 1, rounded once: a mean that the dtype holds
/// does not pass through a sum that it does not.
Tensor scaled_sum(const char* name, const Tensor& x, const Shape& kept, double scale) {
  Tensor out = run_reduce(name, ReduceOp::Sum, x, kept, scale);
  if (needs_grad({x})) {
    record(name, {x}, {&out}, [to = x.shape(), scale](std::span<const Tensor> grads) -> std::vector<Tensor> {
      const Tensor share = scale == 1 ? grads[0] : affine(grads[0], scale, 0);
      return {contiguous(broadcast_to(share, to))};
    });
  }
  return out;
}

Tensor run_extreme(const char* name, ReduceOp op, const Tensor& x, const std::vector<int>& dims,
                   bool keep_dims) {
  check_floating(name, "x", x);
  const Shape kept = kept_shape(name, x, dims);
  require(x.numel() > 0 || numel(kept) == 0, "{}: cannot reduce no elements; got {}", name, x.shape());
  Tensor out = run_reduce(name, op, x, kept);
  if (needs_grad({x})) {
    record(name, {x}, {&out},
           [x = x.detach(), y = out.detach(), kept](std::span<const Tensor> grads) -> std::vector<Tensor> {
             // NaN equals nothing, itself included: where y is NaN, so are its hits.
             const Tensor hits = add(equal(x, y), affine(equal(x, x), -1, 1));
             // 16-bit floats do not hold every number of equals, f16 none beyond 65504.
             const DType wide = x.dtype() == DType::F64 ? DType::F64 : DType::F32;
             const Tensor share = div(cast(grads[0], wide), sum_to(cast(hits, wide), kept));
             return {select(cast(share, x.dtype()), hits)};
           },
           {x, out});
  }
  return squeeze(out, dims, keep_dims);
}

}  // namespace

Tensor sum(const Tensor& x, const std::vector<int>& dims, bool keep_dims) {
  check_floating("sum", "x", x);
  return squeeze(sum_to(x, kept_shape("sum", x, dims)), dims, keep_dims);
}

Tensor mean(const Tensor& x, const std::vector<int>& dims, bool keep_dims) {
  check_floating("mean", "x", x);
  const Shape kept = kept_shape("mean", x, dims);
  const double count =
      static_cast<double>(x.numel()) / static_cast<double>(std::max<std::int64_t>(numel(kept), 1));
  return squeeze(scaled_sum("mean", x, kept, 1.0 / count), dims, keep_dims);
}

Tensor sum_squares(const Tensor& x, const std::vector<int>& dims, bool keep_dims) {
  check_floating("sum_squares", "x", x);
  Tensor out = run_reduce("sum_squares", ReduceOp::SumSquares, x, kept_shape("sum_squares", x, dims));
  if (needs_grad({x})) {
    record("sum_squares", {x}, {&out},
           [x = x.detach()](std::span<const Tensor> grads) -> std::vector<Tensor> {
             return {affine(mul(x, grads[0]), 2, 0)};
           },
           {x});
  }
  return squeeze(out, dims, keep_dims);
}

Tensor max(const Tensor& x, const std::vector<int>& dims, bool keep_dims) {
  return run_extreme("max", ReduceOp::Max, x, dims, keep_dims);
}

Tensor min(const Tensor& x, const std::vector<int>& dims, bool keep_dims) {
  return run_extreme("min", ReduceOp::Min, x, dims, keep_dims);
}

Tensor argmax(const Tensor& x, int dim, bool keep_dim) {
  check_floating("argmax", "x", x);
  refuse_grad("argmax", {x});
  dim = normalize_dim(dim, x.rank(), "argmax");
  Shape kept = x.shape();
  kept[dim] = 1;
  require(x.size(dim) > 0 || numel(kept) == 0, "argmax: cannot reduce no elements; got {}", x.shape());
  Tensor out = Tensor::empty(kept, DType::I64, x.device());
  if (out.numel() > 0) run(&KernelTable::argmax, x.device(), ArgmaxArgs{x, out, dim});
  return squeeze(out, {dim}, keep_dim);
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  check_floating("sum_to", "x", x);
  if (x.shape() == shape) return x;
  require(broadcast_shapes(x.shape(), shape, "sum_to") == x.shape(), "sum_to: {} does not broadcast to {}",
          shape, x.shape());
  Shape kept = Dims::filled(x.rank(), 1);
  for (int d = 0; d < shape.rank(); ++d) kept[d + x.rank() - shape.rank()] = shape[d];
  return reshape(scaled_sum("sum", x, kept, 1), shape);
}

}  // namespace candela
