#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/gather.h>

#include "backend/selector.h"
#include "ops/checks.h"

namespace candela {

Tensor embedding(const Tensor& weight, const Tensor& ids) {
  check_floating("embedding", "weight", weight);
  check_index("embedding", "ids", ids);
  const Device device = check_same_device("embedding", {weight, ids});
  require(weight.rank() == 2, "embedding: weight must be [V, D]; got {}", weight.shape());
  const Tensor flat = reshape(ids, {ids.numel()});
  Tensor rows = Tensor::empty({flat.numel(), weight.size(1)}, weight.dtype(), device);
  if (rows.numel() > 0) run(&KernelTable::embedding, device, EmbeddingArgs{weight, flat, rows});
  Shape shape = ids.shape();
  shape.push_back(weight.size(1));
  Tensor out = rows.with_layout(Layout::contiguous(shape));
  if (needs_grad({weight})) {
    record("embedding", {weight}, {&out},
           [flat, weight = weight.detach()](std::span<const Tensor> grads) -> std::vector<Tensor> {
             Tensor dweight = Tensor::empty(weight.shape(), DType::F32, weight.device());
             const Tensor dy = reshape(grads[0], {flat.numel(), weight.size(1)});
             if (dweight.numel() > 0)
               run(&KernelTable::embedding_grad, weight.device(), EmbeddingGradArgs{dy, flat, dweight});
             return {cast(dweight, weight.dtype())};
           });
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
  if (out.numel() > 0) run(&KernelTable::gather, device, GatherArgs{x, index, out, dim});
  if (needs_grad({x})) {
    record("gather", {x}, {&out},
           [x = x.detach(), index, dim](std::span<const Tensor> grads) -> std::vector<Tensor> {
             const DType sum_dtype = x.dtype() == DType::F64 ? DType::F64 : DType::F32;
             Tensor dx = Tensor::empty(x.shape(), sum_dtype, x.device());
             if (dx.numel() > 0)
               run(&KernelTable::gather_grad, x.device(), GatherGradArgs{grads[0], index, dx, dim});
             return {cast(dx, x.dtype())};
           });
  }
  return out;
}

}  // namespace candela
