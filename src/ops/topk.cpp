#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/topk.h>

#include "backend/selector.h"
#include "ops/checks.h"

namespace candela {

TopkResult topk(const Tensor& x, std::int64_t k) {
  check_floating("topk", "x", x);
  require(x.rank() >= 1 && k >= 1 && k <= x.size(-1), "topk: k must be in [1, {}] for x {}; got {}",
          x.rank() > 0 ? x.size(-1) : 0, x.shape(), k);
  Shape shape = x.shape();
  shape[shape.rank() - 1] = k;
  TopkResult result{Tensor::empty(shape, x.dtype(), x.device()),
                    Tensor::empty(shape, DType::I32, x.device())};
  if (x.numel() > 0) run(&KernelTable::topk, x.device(), TopkArgs{x, result.values, result.indices, k});
  if (needs_grad({x})) {
    record(
        "topk", {x}, {&result.values},
        [x = x.detach(), indices = result.indices](std::span<const Tensor> grads) -> std::vector<Tensor> {
          Tensor dx = Tensor::empty(x.shape(), x.dtype() == DType::F64 ? DType::F64 : DType::F32, x.device());
          if (dx.numel() > 0) {
            run(&KernelTable::gather_grad, x.device(), GatherGradArgs{grads[0], indices, dx, x.rank() - 1});
          }
          return {cast(dx, x.dtype())};
        });
  }
  return result;
}

}  // namespace candela
