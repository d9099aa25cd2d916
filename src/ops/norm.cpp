#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/norm.h>
#include <candela/ops/reduce.h>

#include "backend/selector.h"
#include "ops/checks.h"
#include "ops/composed.h"

namespace candela {
namespace {

void check_norm(const char* op, const Tensor& x, const Tensor& weight, const char* name) {
  if (!weight.defined()) return;
  check_same_dtype(op, x, weight);
  require(weight.shape() == Shape{x.size(-1)}, "{}: {} must be [{}] to match x {}; got {}", op, name,
          x.size(-1), x.shape(), weight.shape());
}

/// f32 [rows]: one statistic per row, kept only when a gradient will ask for it.
Tensor statistics(const Tensor& x, bool wanted) {
  return wanted ? Tensor::empty({x.numel() / std::max<std::int64_t>(x.size(-1), 1)}, DType::F32, x.device())
                : Tensor();
}

struct RmsNormResult {
  Tensor sum;
  Tensor out;
};

/// Both entry points: with a residual the sum is an output too, and its gradient joins on the way back.
RmsNormResult run_rms_norm(const char* op, const Tensor& x, const Tensor& residual, const Tensor& weight,
                           double eps, double weight_offset) {
  const bool grad = needs_grad({x, residual, weight});
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  Tensor sum = residual.defined() ? Tensor::empty(x.shape(), x.dtype(), x.device()) : Tensor();
  Tensor rstd = statistics(x, grad);
  std::string reasons;
  if (x.numel() > 0 &&
      !try_run(&KernelTable::rms_norm, x.device(),
               RmsNormArgs{x, residual, weight, out, sum, rstd, eps, weight_offset}, &reasons)) {
    log_composed_once(op, x.device(), reasons);
    if (!residual.defined()) return {{}, composed::rms_norm(x, weight, eps, weight_offset)};
    auto [h, normed] = composed::add_rms_norm(x, residual, weight, eps, weight_offset);
    return {h, normed};
  }
  if (!grad) return {sum, out};
  const bool need_weight = weight.requires_grad();
  const Tensor h = residual.defined() ? sum.detach() : x.detach();
  auto gradient = [h, weight = weight.detach(), rstd, need_weight, eps, weight_offset](const Tensor& dy,
                                                                                       const Tensor& dsum) {
    Tensor dx = Tensor::empty(h.shape(), h.dtype(), h.device());
    Tensor dweight = need_weight ? zeros(weight.shape(), DType::F32, h.device()) : Tensor();
    if (h.numel() > 0) {
      run(&KernelTable::rms_norm_grad, h.device(),
          RmsNormGradArgs{h, weight, rstd, dy, dsum, dx, dweight, eps, weight_offset});
    }
    return std::pair(dx, need_weight ? cast(dweight, weight.dtype()) : Tensor());
  };
  const auto again = std::make_shared<Recipe>(Recipe{
      [h, weight = weight.detach(), eps, weight_offset] { return rms_norm(h, weight, eps, weight_offset); },
      {h, weight.detach()}});
  if (!residual.defined()) {
    record(op, {x, weight}, {&out},
           [gradient](std::span<const Tensor> grads) -> std::vector<Tensor> {
             auto [dx, dweight] = gradient(grads[0], {});
             return {dx, dweight};
           },
           {h, weight});
    out.set_recipe(again);
    return {sum, out};
  }
  record(op, {x, residual, weight}, {&sum, &out},
         [gradient](std::span<const Tensor> grads) -> std::vector<Tensor> {
           if (!grads[1].defined()) return {grads[0], grads[0], {}};
           auto [dx, dweight] = gradient(grads[1], grads[0]);
           return {dx, dx, dweight};
         },
         {h, weight});
  out.set_recipe(again);
  return {sum, out};
}

void check_rms_norm(const char* op, const Tensor& x, const Tensor& residual, const Tensor& weight) {
  check_floating(op, "x", x);
  check_floating(op, "weight", weight);
  check_same_device(op, {x, residual, weight});
  require(x.rank() >= 1, "{}: x must have at least 1 dimension; got {}", op, x.shape());
  check_norm(op, x, weight, "weight");
  if (residual.defined()) {
    check_same_dtype(op, x, residual);
    require(residual.shape() == x.shape(), "{}: residual must be {} as x; got {}", op, x.shape(),
            residual.shape());
  }
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, double weight_offset) {
  check_rms_norm("rms_norm", x, {}, weight);
  return run_rms_norm("rms_norm", x, {}, weight, eps, weight_offset).out;
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                       double eps, double weight_offset) {
  check_defined("add_rms_norm", "residual", residual);
  check_rms_norm("add_rms_norm", x, residual, weight);
  const RmsNormResult result = run_rms_norm("add_rms_norm", x, residual, weight, eps, weight_offset);
  return {result.sum, result.out};
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  check_floating("layer_norm", "x", x);
  check_same_device("layer_norm", {x, weight, bias});
  require(x.rank() >= 1, "layer_norm: x must have at least 1 dimension; got {}", x.shape());
  check_norm("layer_norm", x, weight, "weight");
  check_norm("layer_norm", x, bias, "bias");
  const bool grad = needs_grad({x, weight, bias});
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  Tensor mean = statistics(x, grad);
  Tensor rstd = statistics(x, grad);
  std::string reasons;
  if (x.numel() > 0 && !try_run(&KernelTable::layer_norm, x.device(),
                                LayerNormArgs{x, weight, bias, out, mean, rstd, eps}, &reasons)) {
    log_composed_once("layer_norm", x.device(), reasons);
    return composed::layer_norm(x, weight, bias, eps);
  }
  if (!grad) return out;
  const bool need_weight = weight.defined() && weight.requires_grad();
  const bool need_bias = bias.defined() && bias.requires_grad();
  record("layer_norm", {x, weight, bias}, {&out},
         [x = x.detach(), weight = weight.defined() ? weight.detach() : Tensor(), mean, rstd, need_weight,
          need_bias](std::span<const Tensor> grads) -> std::vector<Tensor> {
           Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
           Tensor dweight = need_weight ? zeros({x.size(-1)}, DType::F32, x.device()) : Tensor();
           Tensor dbias = need_bias ? zeros({x.size(-1)}, DType::F32, x.device()) : Tensor();
           if (x.numel() > 0) {
             run(&KernelTable::layer_norm_grad, x.device(),
                 LayerNormGradArgs{x, weight, mean, rstd, grads[0], dx, dweight, dbias});
           }
           return {dx, need_weight ? cast(dweight, x.dtype()) : Tensor(),
                   need_bias ? cast(dbias, x.dtype()) : Tensor()};
         },
         {x, weight});
  return out;
}

namespace composed {

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, double weight_offset) {
  const Tensor rstd = rsqrt(mean(square(x), {-1}, true) + eps);
  return mul(mul(x, rstd), weight_offset == 0 ? weight : affine(weight, 1, weight_offset));
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                       double eps, double weight_offset) {
  const Tensor h = add(x, residual);
  return {h, composed::rms_norm(h, weight, eps, weight_offset)};
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  const Tensor centred = sub(x, mean(x, {-1}, true));
  Tensor out = mul(centred, rsqrt(mean(square(centred), {-1}, true) + eps));
  if (weight.defined()) out = mul(out, weight);
  if (bias.defined()) out = add(out, bias);
  return out;
}

}  // namespace composed
}  // namespace candela
