#include <cmath>

#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/optimizer.h>

#include "cases/variants.h"

namespace candela::cases {
namespace {

constexpr AdamwOptions kOptions{.lr = 3e-3, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .weight_decay = 0.1};

/// {param, m, v} after one step, from plain ops and the formulas of args/optimizer.h.
std::vector<Tensor> adamw_reference(std::span<const Tensor> in, std::int64_t step, double grad_scale) {
  const auto steps = static_cast<double>(step);
  const Tensor g = affine(in[1], grad_scale, 0);
  const Tensor m = add(affine(in[2], kOptions.beta1, 0), affine(g, 1 - kOptions.beta1, 0));
  const Tensor v = add(affine(in[3], kOptions.beta2, 0), affine(square(g), 1 - kOptions.beta2, 0));
  const Tensor m_hat = affine(m, 1 / (1 - std::pow(kOptions.beta1, steps)), 0);
  const Tensor v_hat = affine(v, 1 / (1 - std::pow(kOptions.beta2, steps)), 0);
  const Tensor move = div(m_hat, affine(sqrt(v_hat), 1, kOptions.eps));
  return {sub(affine(in[0], 1 - kOptions.lr * kOptions.weight_decay, 0), affine(move, kOptions.lr, 0)), m, v};
}

}  // namespace

std::vector<OpCase> optimizer_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& like, std::int64_t step,
                            double grad_scale) {
    Input param = like;
    param.arrange = Arrange::Contiguous;
    param.fill = like.fill == Fill::WithNan || like.fill == Fill::WithInfinity ? Fill::Normal : like.fill;
    const Input m{.shape = like.shape, .dtype = DType::F32, .scale = 0.1};
    Input v{.shape = like.shape, .fill = Fill::Uniform, .dtype = DType::F32};
    OpCase made{.op = "adamw_step", .name = name, .inputs = {param, like, m, v}};
    made.fused = [step, grad_scale](std::span<const Tensor> in) -> std::vector<Tensor> {
      std::vector<Tensor> state = {clone(in[0].detach()), clone(in[2].detach()), clone(in[3].detach())};
      adamw_step(state[0], in[1], state[1], state[2], kOptions, step, grad_scale);
      return state;
    };
    made.composed = [step, grad_scale](std::span<const Tensor> in) {
      return adamw_reference(in, step, grad_scale);
    };
    made.gradient = Gradient::Cut;
    made.kernel = "adamw";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) add_case(variant.name, variant.input, 3, 1);
  add_case("first_step", {.shape = {5, 33}}, 1, 1);
  add_case("clipped", {.shape = {5, 33}}, 100, 0.125);
  // In place on the inputs: a copy of the state would cost as much as the step. Reads param, grad, m, v;
  // writes param, m, v.
  constexpr double kElements = 4096.0 * 4096.0;
  add_case("bench", {.shape = {4096, 4096}}, 7, 0.5);
  OpCase& bench = list.back();
  bench.bench = true;
  bench.fused = [](std::span<const Tensor> in) -> std::vector<Tensor> {
    adamw_step(in[0], in[1], in[2], in[3], kOptions, 7, 0.5);
    return {};
  };
  bench.forward = {.flops = 14 * kElements, .elements = 3 * kElements, .fixed_bytes = 16 * kElements};
  return list;
}

}  // namespace candela::cases
