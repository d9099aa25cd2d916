#include <candela/core/grad.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/reduce.h>
#include <candela/ops/softmax.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

Tensor run_softmax(const char* op, const Tensor& x, int dim, bool log) {
  check_floating(op, "x", x);
  dim = normalize_dim(dim, x.rank(), op);
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  std::string reasons;
  if (x.numel() > 0 && !try_run(&KernelTable::softmax, x.device(), SoftmaxArgs{x, out, dim, log}, &reasons)) {
    log_composed_once(op, x.device(), reasons);
    return log ? composed::log_softmax(x, dim) : composed::softmax(x, dim);
  }
  if (needs_grad({x})) {
    record(op, {x}, {&out},
           [y = out.detach(), dim, log](std::span<const Tensor> grads) -> std::vector<Tensor> {
             Tensor dx = Tensor::empty(y.shape(), y.dtype(), y.device());
             if (y.numel() > 0)
               run(&KernelTable::softmax_grad, y.device(), SoftmaxGradArgs{y, grads[0], dx, dim, log});
             return {dx};
           },
           {out});
  }
  return out;
}

}  // namespace

Tensor softmax(const Tensor& x, int dim) {
  return run_softmax("softmax", x, dim, false);
}
Tensor log_softmax(const Tensor& x, int dim) {
  return run_softmax("log_softmax", x, dim, true);
}

namespace composed {

Tensor softmax(const Tensor& x, int dim) {
  if (x.numel() == 0) return x;
  const Tensor e = exp(sub(x, max(x.detach(), {dim}, true)));
  return div(e, sum(e, {dim}, true));
}

Tensor log_softmax(const Tensor& x, int dim) {
  if (x.numel() == 0) return x;
  const Tensor shifted = sub(x, max(x.detach(), {dim}, true));
  return sub(shifted, log(sum(exp(shifted), {dim}, true)));
}

}  // namespace composed
}  // namespace candela
