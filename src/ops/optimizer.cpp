#include <algorithm>
#include <cmath>
#include <vector>

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

void check_operands(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v) {
  check_floating("adamw_step", "param", param);
  check_floating("adamw_step", "grad", grad);
  check_same_device("adamw_step", {param, grad, m, v});
  for (const Tensor& other : {grad, m, v}) {
    require(other.shape() == param.shape(), "adamw_step: grad, m and v must be {} as the parameter; got {}",
            param.shape(), other.shape());
  }
  require(m.dtype() == DType::F32 && v.dtype() == DType::F32,
          "adamw_step: m and v must be f32; got {} and {}", m, v);
  require(param.is_contiguous() && m.is_contiguous() && v.is_contiguous(),
          "adamw_step: param, m and v must be contiguous");
  for (const Tensor& written : {param, m, v}) {
    require<Unsupported>(
        !written.grad_node(),
        "adamw_step: writes in place, but autograd tracks {} as a result of {}; pass a leaf or a "
        "detach()ed tensor",
        written, written.grad_node() ? written.grad_node()->op : "");
  }
}

/// One of the factors as a double, on the host.
double& at(std::vector<double>& factors, AdamwFactor which) {
  return factors[static_cast<std::size_t>(which)];
}

/// The factors that do not depend on the gradient.
std::vector<double> made_factors(const AdamwOptions& options, double steps) {
  std::vector<double> factors(kAdamwFactors);
  at(factors, AdamwFactor::Apply) = 1;
  at(factors, AdamwFactor::GradScale) = 1;
  at(factors, AdamwFactor::Keep) = 1 - options.lr * options.weight_decay;
  at(factors, AdamwFactor::StepSize) = options.lr / (1 - std::pow(options.beta1, steps));
  at(factors, AdamwFactor::Root) = 1 / std::sqrt(1 - std::pow(options.beta2, steps));
  return factors;
}

Tensor on_device(const std::vector<double>& values, Device device) {
  const std::vector<float> narrow(values.begin(), values.end());
  return Tensor::from_values(narrow, {static_cast<std::int64_t>(narrow.size())}, device);
}

}  // namespace

void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, std::int64_t step, double grad_scale) {
  check_operands(param, grad, m, v);
  require(step >= 1, "adamw_step: step counts from 1; got {}", step);
  check_options(options);
  if (param.dtype() == DType::F64) {  // a reference: its factors keep their digits
    composed::adamw_step(param, grad, m, v, options, step, grad_scale);
    for (const Tensor& written : {param, m, v}) written.storage()->bump_version();
    return;
  }
  std::vector<double> factors = made_factors(options, static_cast<double>(step));
  at(factors, AdamwFactor::GradScale) = grad_scale;
  adamw_step(param, grad, m, v, options, on_device(factors, param.device()));
}

void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, const Tensor& factors) {
  check_operands(param, grad, m, v);
  check_options(options);
  const Device device = check_same_device("adamw_step", {param, factors});
  require(factors.dtype() == DType::F32 && factors.shape() == Shape{kAdamwFactors} && factors.is_contiguous(),
          "adamw_step: factors must be f32 [{}] as adamw_factors() makes them; got {}", kAdamwFactors,
          factors);
  if (param.numel() == 0) return;
  const Tensor flat_grad = contiguous(grad.detach());  // the arguments do not keep it alive
  const AdamwArgs args{param, flat_grad, m, v, factors, options.beta1, options.beta2, options.eps};
  std::string reasons;
  if (!try_run(&KernelTable::adamw, device, args, &reasons)) {
    log_composed_once("adamw_step", device, reasons);
    composed::adamw_step(param, grad, m, v, options, factors);
  }
  for (const Tensor& written : {param, m, v}) written.storage()->bump_version();
}

Tensor adamw_factors(const Tensor& loss, const Tensor& squares, const Tensor& learning_rate,
                     const Tensor& updates, const AdamwOptions& options, double clip_norm) {
  const Device device = check_same_device("adamw_factors", {loss, squares, learning_rate, updates});
  for (const Tensor& number : {loss, squares, learning_rate, updates}) {
    require(number.dtype() == DType::F32 && number.shape() == Shape{1},
            "adamw_factors: loss, squares, learning_rate and updates must be f32 [1]; got {}", number);
  }
  check_options(options);
  require(clip_norm >= 0 && std::isfinite(clip_norm),
          "adamw_factors: clip_norm must be finite and not negative; got {}", clip_norm);
  const NoGrad guard;
  const Tensor factors = Tensor::empty({kAdamwFactors}, DType::F32, device);
  std::string reasons;
  const AdamwFactorsArgs args{loss,          squares,       learning_rate,        updates,  factors,
                              options.beta1, options.beta2, options.weight_decay, clip_norm};
  if (!try_run(&KernelTable::adamw_factors, device, args, &reasons)) {
    log_composed_once("adamw_factors", device, reasons);
    return composed::adamw_factors(loss, squares, learning_rate, updates, options, clip_norm);
  }
  updates.storage()->bump_version();
  return factors;
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

void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, const Tensor& factors) {
  const NoGrad guard;
  std::vector<double> on_host = cast(factors, DType::F64).to_vector<double>();
  if (at(on_host, AdamwFactor::Apply) == 0) return;
  const Tensor g = affine(cast(grad, DType::F32), at(on_host, AdamwFactor::GradScale), 0);
  const Tensor first = add(affine(m, options.beta1, 0), affine(g, 1 - options.beta1, 0));
  const Tensor second = add(affine(v, options.beta2, 0), affine(square(g), 1 - options.beta2, 0));
  const Tensor root = affine(sqrt(second), at(on_host, AdamwFactor::Root), options.eps);
  const Tensor move = affine(div(first, root), at(on_host, AdamwFactor::StepSize), 0);
  copy_(param, sub(affine(cast(param, DType::F32), at(on_host, AdamwFactor::Keep), 0), move));
  copy_(m, first);
  copy_(v, second);
}

Tensor adamw_factors(const Tensor& loss, const Tensor& squares, const Tensor& learning_rate,
                     const Tensor& updates, const AdamwOptions& options, double clip_norm) {
  const NoGrad guard;
  const auto read = [](const Tensor& x) { return cast(x, DType::F64).item(); };
  const double sum = read(squares);
  if (!std::isfinite(sum) || !std::isfinite(read(loss)))
    return zeros({kAdamwFactors}, DType::F32, loss.device());
  const double steps = read(updates) + 1;
  fill_(updates, steps);
  AdamwOptions at_rate = options;
  at_rate.lr = read(learning_rate);
  std::vector<double> factors = made_factors(at_rate, steps);
  // The small term keeps a zero norm from dividing.
  if (clip_norm > 0) at(factors, AdamwFactor::GradScale) = std::min(1.0, clip_norm / (std::sqrt(sum) + 1e-6));
  return on_device(factors, loss.device());
}

}  // namespace composed
}  // namespace candela
