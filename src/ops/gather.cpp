#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/gather.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

/// What the terms of a gradient are added up in.
DType sum_dtype(DType dtype) {
  return dtype == DType::F64 ? DType::F64 : DType::F32;
}

}  // namespace

Tensor embedding(const Tensor& weight, const Tensor& ids) {
  check_floating("embedding", "weight", weight);
  check_index("embedding", "ids", ids);
  const Device device = check_same_device("embedding", {weight, ids});
  require(weight.rank() == 2, "embedding: weight must be [V, D]; got {}", weight.shape());
  const Tensor flat = reshape(ids, {ids.numel()});
  Tensor rows = Tensor::empty({flat.numel(), weight.size(1)}, weight.dtype(), device);
  std::string reasons;
  if (rows.numel() > 0 &&
      !try_run(&KernelTable::embedding, device, EmbeddingArgs{weight, flat, rows}, &reasons)) {
    log_composed_once("embedding", device, reasons);
    return composed::embedding(weight, ids);
  }
  Shape shape = ids.shape();
  shape.push_back(weight.size(1));
  Tensor out = rows.with_layout(Layout::contiguous(shape));
  if (needs_grad({weight})) {
    record("embedding", {weight}, {&out},
           [flat, shape = weight.shape(), dtype = weight.dtype(),
            device](std::span<const Tensor> grads) -> std::vector<Tensor> {
             Tensor dweight = Tensor::empty(shape, sum_dtype(dtype), device);
             const Tensor dy = reshape(grads[0], {flat.numel(), shape[1]});
             if (dweight.numel() > 0)
               run(&KernelTable::embedding_grad, device, EmbeddingGradArgs{dy, flat, dweight});
             return {cast(dweight, dtype)};
           },
           {flat});
  }
  return out;
}

Tensor gather(const Tensor& x, int dim, const Tensor& index) {
  check_floating("gather", "x", x);
  check_index("gather", "index", index);
  const Device device = check_same_device("gather", {x, index});
  dim = normalize_dim(dim, x.rank(), "gather");
  Shape expected = x.shape();
  if (index.rank() == x.rank()) expected[dim] = index.size(dim);
  require(index.shape() == expected, "gather: index must have the sizes of x {} but for dim {}; got {}",
          x.shape(), dim, index.shape());
  Tensor out = Tensor::empty(index.shape(), x.dtype(), device);
  std::string reasons;
  if (out.numel() > 0 && !try_run(&KernelTable::gather, device, GatherArgs{x, index, out, dim}, &reasons)) {
    log_composed_once("gather", device, reasons);
    return composed::gather(x, dim, index);
  }
  if (needs_grad({x})) {
    record("gather", {x}, {&out},
           [shape = x.shape(), dtype = x.dtype(), device, index,
            dim](std::span<const Tensor> grads) -> std::vector<Tensor> {
             Tensor dx = Tensor::empty(shape, sum_dtype(dtype), device);
             if (dx.numel() > 0)
               run(&KernelTable::gather_grad, device, GatherGradArgs{grads[0], index, dx, dim});
             return {cast(dx, dtype)};
           },
           {index});
  }
  return out;
}

namespace composed {

Tensor embedding(const Tensor& weight, const Tensor& ids) {
  // index[n, d] = ids[n]: every column of the weight is gathered alike.
  const std::int64_t width = weight.size(1);
  const Tensor rows = broadcast_to(reshape(ids, {ids.numel(), 1}), {ids.numel(), width});
  Shape shape = ids.shape();
  shape.push_back(width);
  return reshape(candela::gather(weight, 0, rows), shape);
}

Tensor gather(const Tensor& x, int dim, const Tensor& index) {
  if (index.numel() == 0) return slice(x, dim, 0, 0);
  const std::int64_t bound = x.size(dim);
  const Tensor turned = transpose(cast(index, DType::I64), dim, -1);
  const std::vector<std::int64_t> picks = turned.to_vector<std::int64_t>();
  const std::int64_t width = turned.size(-1);
  const Tensor rows = reshape(transpose(x, dim, -1), {turned.numel() / width, bound});
  std::vector<Tensor> out;
  out.reserve(picks.size());
  for (std::size_t i = 0; i < picks.size(); ++i) {
    require(picks[i] >= 0 && picks[i] < bound, "gather: indices must be in [0, {}); got {}", bound, picks[i]);
    const std::int64_t row = static_cast<std::int64_t>(i) / width;
    out.push_back(slice(slice(rows, 0, row, row + 1), 1, picks[i], picks[i] + 1));
  }
  return transpose(reshape(concat(out, 0), turned.shape()), dim, -1);
}

}  // namespace composed
}  // namespace candela
