#include <cmath>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/optimizer.h>
#include <candela/ops/reduce.h>

#include "backend/selector.h"
#include "ops/checks.h"

namespace candela {

void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, std::int64_t step, double grad_scale) {
  check_floating("adamw", "param", param);
  check_floating("adamw", "grad", grad);
  const Device device = check_same_device("adamw", {param, grad, m, v});
  for (const Tensor& other : {grad, m, v}) {
    require(other.shape() == param.shape(), "adamw: grad, m and v must be {} as the parameter; got {}",
            param.shape(), other.shape());
  }
  require(m.dtype() == DType::F32 && v.dtype() == DType::F32, "adamw: m and v must be f32; got {} and {}",
          describe(m), describe(v));
  require(param.is_contiguous() && m.is_contiguous() && v.is_contiguous(),
          "adamw: param, m and v must be contiguous");
  require(step >= 1, "adamw: step counts from 1; got {}", step);
  if (param.numel() == 0) return;
  run(&KernelTable::adamw, device,
      AdamwArgs{param, contiguous(grad.detach()), m, v, options.lr, options.beta1, options.beta2, options.eps,
                options.weight_decay, grad_scale, step});
}

double global_norm(std::span<const Tensor> tensors) {
  const NoGrad guard;
  Tensor total;
  for (const Tensor& tensor : tensors) {
    if (!tensor.defined() || tensor.numel() == 0) continue;
    const Tensor part = cast(reshape(sum_squares(cast(tensor, DType::F32)), {1}), DType::F32);
    total = total.defined() ? add(total, part) : part;
  }
  return total.defined() && total.device().type != DeviceType::Plan ? std::sqrt(total.item()) : 0.0;
}

}  // namespace candela
