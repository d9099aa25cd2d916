#include <limits>

#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
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

/// adamw_factors of fixed numbers: {factors, updates}.
OpCase factors_case(const std::string& name, double loss, double squares, double updates, double clip_norm,
                    const AdamwOptions& options = kUsual) {
  const auto number = [](double value, double spread) {
    return Input{
        .shape = {1}, .fill = Fill::Uniform, .dtype = DType::F32, .low = value, .high = value + spread};
  };
  OpCase made{.op = "adamw_factors",
              .name = name,
              .inputs = {number(0, 1), number(0, 1), number(1e-4, 1e-2), number(updates, 0)}};
  // Loss and sum of squares are drawn in [0, 1) and scaled: 0 and what is not finite stay as given.
  const auto call = [loss, squares, clip_norm, options](const auto& op, std::span<const Tensor> in) {
    const auto scaled = [](const Tensor& x, double by) { return affine(x.detach(), by, 0); };
    const Tensor counted = clone(in[3].detach());
    const Tensor factors =
        op(scaled(in[0], loss), scaled(in[1], squares), in[2].detach(), counted, options, clip_norm);
    return std::vector<Tensor>{factors, counted};
  };
  made.fused = [call](std::span<const Tensor> in) { return call(adamw_factors, in); };
  made.composed = [call](std::span<const Tensor> in) { return call(composed::adamw_factors, in); };
  made.gradient = Gradient::Cut;
  made.kernel = "adamw_factors";
  made.dtypes = {DType::F32};
  return made;
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
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  list.push_back(factors_case("first_step", 3, 4, 0, 0));
  list.push_back(factors_case("clipped", 3, 400, 12, 1));
  list.push_back(factors_case("within_the_clip", 3, 0.5, 12, 1));
  list.push_back(factors_case("zero_gradient", 3, 0, 12, 1));
  list.push_back(factors_case("no_momentum", 3, 4, 1, 1, {.beta1 = 0, .beta2 = 0.98}));
  list.push_back(factors_case("many_updates", 3, 4, 1 << 20, 1));
  list.push_back(factors_case("infinite_loss", kInfinity, 4, 12, 1));
  list.push_back(factors_case("infinite_norm", 3, kInfinity, 12, 1));
  list.push_back(factors_case("nan", std::numeric_limits<double>::quiet_NaN(), 4, 12, 1));
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
