#include <algorithm>
#include <cmath>
#include <numeric>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/gather.h>
#include <candela/ops/topk.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {

TopkResult topk(const Tensor& x, std::int64_t k) {
  check_floating("topk", "x", x);
  require(x.rank() >= 1 && k >= 1 && k <= x.size(-1), "topk: k must be in [1, {}] for x {}; got {}",
          x.rank() > 0 ? x.size(-1) : 0, x.shape(), k);
  Shape shape = x.shape();
  shape[shape.rank() - 1] = k;
  TopkResult result{Tensor::empty(shape, x.dtype(), x.device()),
                    Tensor::empty(shape, DType::I32, x.device())};
  std::string reasons;
  if (x.numel() > 0 &&
      !try_run(&KernelTable::topk, x.device(), TopkArgs{x, result.values, result.indices, k}, &reasons)) {
    log_composed_once("topk", x.device(), reasons);
    return composed::topk(x, k);
  }
  if (needs_grad({x})) {
    record("topk", {x}, {&result.values},
           [in = x.shape(), dtype = x.dtype(), device = x.device(),
            indices = result.indices](std::span<const Tensor> grads) -> std::vector<Tensor> {
             Tensor dx = Tensor::empty(in, dtype == DType::F64 ? DType::F64 : DType::F32, device);
             if (dx.numel() > 0)
               run(&KernelTable::gather_grad, device, GatherGradArgs{grads[0], indices, dx, in.rank() - 1});
             return {cast(dx, dtype)};
           },
           {result.indices});
  }
  return result;
}

namespace composed {

TopkResult topk(const Tensor& x, std::int64_t k) {
  Shape shape = x.shape();
  const std::int64_t width = x.size(-1);
  shape[shape.rank() - 1] = k;
  const std::vector<double> values = cast(x.detach(), DType::F64).to_vector<double>();
  std::vector<std::int32_t> order(static_cast<std::size_t>(width));
  std::vector<std::int32_t> indices;
  for (auto row = values.begin(); row != values.end(); row += width) {
    std::iota(order.begin(), order.end(), 0);
    // Stable: the lower index comes first among equals.
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      if (std::isnan(row[a]) || std::isnan(row[b])) return std::isnan(row[a]) && !std::isnan(row[b]);
      return row[a] > row[b];
    });
    indices.insert(indices.end(), order.begin(), order.begin() + k);
  }
  const Tensor at = Tensor::from_values(indices, shape, x.device());
  return {candela::gather(x, -1, at), at};
}

}  // namespace composed
}  // namespace candela
