#include <candela/ops/copy.h>
#include <candela/ops/optimizer.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

constexpr AdamwOptions kOptions{.lr = 3e-3, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .weight_decay = 0.1};
constexpr AdamwOptions kUsual{.lr = 3e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1};

/// {param, m, v} after `step`, a call of adamw_step on copies of the inputs.
template <class Step>
std::vector<Tensor> after(std::span<const Tensor> in, Step&& step) {
  std::vector<Tensor> state = {clone(in[0].detach()), clone(in[2].detach()), clone(in[3].detach())};
  step(state[0], in[1], state[1], state[2]);
  return state;
}

}  // namespace

std::vector<OpCase> optimizer_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& like, std::int64_t step, double grad_scale,
                            const AdamwOptions& options = kOptions) {
    Input param = like;
    param.arrange = Arrange::Contiguous;
    param.fill = like.fill == Fill::WithNan || like.fill == Fill::WithInfinity ? Fill::Normal : like.fill;
    const Input first{.shape = like.shape, .dtype = DType::F32, .scale = 0.1};
    const Input second{.shape = like.shape, .fill = Fill::Uniform, .dtype = DType::F32};
    OpCase made{.op = "adamw_step", .name = name, .inputs = {param, like, first, second}};
    made.fused = [step, grad_scale, options](std::span<const Tensor> in) {
      return after(in, [&](const Tensor& p, const Tensor& g, const Tensor& m, const Tensor& v) {
        adamw_step(p, g, m, v, options, step, grad_scale);
      });
    };
    made.composed = [step, grad_scale, options](std::span<const Tensor> in) {
      return after(in, [&](const Tensor& p, const Tensor& g, const Tensor& m, const Tensor& v) {
        composed::adamw_step(p, g, m, v, options, step, grad_scale);
      });
    };
    made.gradient = Gradient::Cut;
    made.kernel = "adamw";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) add_case(variant.name, variant.input, 3, 1);
  add_case("first_step", {.shape = {5, 33}}, 1, 1);
  add_case("clipped", {.shape = {5, 33}}, 100, 0.125);
  // All of v is (1 - beta2) g^2: what 1 - beta2 loses when beta2 is rounded first would show.
  add_case("from_zero", {.shape = {5, 33}}, 1, 1, kUsual);
  OpCase& from_zero = list.back();
  for (const std::size_t state : {2, 3}) {
    from_zero.inputs[state].fill = Fill::Uniform;
    from_zero.inputs[state].high = 0;
  }
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
