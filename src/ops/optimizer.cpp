#include <cmath>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/optimizer.h>
#include <candela/ops/reduce.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

/// Written so that NaN fails too.
void check_options(const AdamwOptions& options) {
  require(options.beta1 >= 0 && options.beta1 < 1, "adamw_step: beta1 must be in [0, 1); got {}",
          options.beta1);
  require(options.beta2 >= 0 && options.beta2 < 1, "adamw_step: beta2 must be in [0, 1); got {}",
          options.beta2);
  require(options.eps > 0, "adamw_step: eps must be above 0; got {}", options.eps);
  require(options.lr >= 0 && std::isfinite(options.lr),
          "adamw_step: lr must be finite and not negative; got {}", options.lr);
  require(options.weight_decay >= 0 && std::isfinite(options.weight_decay),
          "adamw_step: weight_decay must be finite and not negative; got {}", options.weight_decay);
}

}  // namespace

void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, std::int64_t step, double grad_scale) {
  check_floating("adamw_step", "param", param);
  check_floating("adamw_step", "grad", grad);
  const Device device = check_same_device("adamw_step", {param, grad, m, v});
  for (const Tensor& other : {grad, m, v}) {
    require(other.shape() == param.shape(), "adamw_step: grad, m and v must be {} as the parameter; got {}",
            param.shape(), other.shape());
  }
  require(m.dtype() == DType::F32 && v.dtype() == DType::F32,
          "adamw_step: m and v must be f32; got {} and {}", m, v);
  require(param.is_contiguous() && m.is_contiguous() && v.is_contiguous(),
          "adamw_step: param, m and v must be contiguous");
  require(step >= 1, "adamw_step: step counts from 1; got {}", step);
  check_options(options);
  for (const Tensor& written : {param, m, v}) {
    require<Unsupported>(
        !written.grad_node(),
        "adamw_step: writes in place, but autograd tracks {} as a result of {}; pass a leaf or a "
        "detach()ed tensor",
        written, written.grad_node() ? written.grad_node()->op : "");
  }
  if (param.numel() == 0) return;
  const Tensor flat_grad = contiguous(grad.detach());  // the arguments do not keep it alive
  const AdamwArgs args{param,
                       flat_grad,
                       m,
                       v,
                       options.lr,
                       options.beta1,
                       options.beta2,
                       options.eps,
                       options.weight_decay,
                       grad_scale,
                       step};
  std::string reasons;
  if (!try_run(&KernelTable::adamw, device, args, &reasons)) {
    log_composed_once("adamw_step", device, reasons);
    composed::adamw_step(param, grad, m, v, options, step, grad_scale);
  }
  for (const Tensor& written : {param, m, v}) written.storage()->bump_version();
}

double global_norm(std::span<const Tensor> tensors) {
  const NoGrad guard;
  Tensor total;
  for (const Tensor& tensor : tensors) {
    if (!tensor.defined() || tensor.numel() == 0) continue;
    const Tensor part = cast(reshape(sum_squares(cast(tensor, DType::F32)), {1}), DType::F32);
    total = total.defined() ? add(total, part) : part;
  }
  return total.defined() && device_interface(total.device()).computes() ? std::sqrt(total.item()) : 0.0;
}

namespace composed {

void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, std::int64_t step, double grad_scale) {
  const NoGrad guard;
  const auto steps = static_cast<double>(step);
  const DType wide = param.dtype() == DType::F64 ? DType::F64 : DType::F32;
  const Tensor g = affine(cast(grad, wide), grad_scale, 0);
  const Tensor first = add(affine(cast(m, wide), options.beta1, 0), affine(g, 1 - options.beta1, 0));
  const Tensor second = add(affine(cast(v, wide), options.beta2, 0), affine(square(g), 1 - options.beta2, 0));
  const Tensor m_hat = affine(first, 1 / (1 - std::pow(options.beta1, steps)), 0);
  const Tensor v_hat = affine(second, 1 / (1 - std::pow(options.beta2, steps)), 0);
  const Tensor move = affine(div(m_hat, affine(sqrt(v_hat), 1, options.eps)), options.lr, 0);
  copy_(param, sub(affine(cast(param, wide), 1 - options.lr * options.weight_decay, 0), move));
  copy_(m, first);
  copy_(v, second);
}

}  // namespace composed
}  // namespace candela
