#include <candela/ops/random.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

constexpr std::uint64_t kSeed = 0x9E3779B97F4A7C15U;
/// Not a multiple of four: kernels must start in the middle of a philox block.
constexpr std::uint64_t kOffset = 1027;

Generator at_offset() {
  Generator generator(kSeed);
  generator.set_offset(kOffset);
  return generator;
}

OpCase draw_case(const char* op, const char* name, const Shape& shape, Call fused, Call composed) {
  // The input only tells shape, dtype and device.
  OpCase made{.op = op, .name = name, .inputs = {{.shape = shape, .gradient = false}}};
  made.fused = std::move(fused);
  made.composed = std::move(composed);
  made.gradient = Gradient::Cut;
  made.kernel = op;
  return made;
}

void add_draws(std::vector<OpCase>& list, const char* name, const Shape& shape) {
  list.push_back(draw_case(
      "uniform", name, shape,
      [](std::span<const Tensor> in) -> std::vector<Tensor> {
        Generator generator = at_offset();
        return {uniform(in[0].shape(), generator, -2, 3, in[0].dtype(), in[0].device())};
      },
      [](std::span<const Tensor> in) -> std::vector<Tensor> {
        return {composed::uniform(in[0].shape(), kSeed, kOffset, -2, 3, DType::F64, Device::cpu())};
      }));
  list.push_back(draw_case(
      "normal", name, shape,
      [](std::span<const Tensor> in) -> std::vector<Tensor> {
        Generator generator = at_offset();
        return {normal(in[0].shape(), generator, 0.5, 2, in[0].dtype(), in[0].device())};
      },
      [](std::span<const Tensor> in) -> std::vector<Tensor> {
        return {composed::normal(in[0].shape(), kSeed, kOffset, 0.5, 2, DType::F64, Device::cpu())};
      }));
}

OpCase dropout_case(const std::string& name, const Input& input, double p) {
  OpCase made = unary_case(
      "dropout", {name, input},
      [p](std::span<const Tensor> in) -> std::vector<Tensor> {
        Generator generator = at_offset();
        return {dropout(in[0], p, generator)};
      },
      [p](std::span<const Tensor> in) -> std::vector<Tensor> {
        return {composed::dropout(in[0], p, kSeed, kOffset)};
      });
  made.kernel = "dropout";
  made.kernel_grad = "dropout";
  return made;
}

}  // namespace

std::vector<OpCase> random_cases() {
  std::vector<OpCase> list;
  add_draws(list, "one_element", {1});
  add_draws(list, "empty", {0, 3});
  add_draws(list, "width_7", {5, 7});
  add_draws(list, "width_127", {5, 127});
  add_draws(list, "wide_row", {2, 100003});
  add_draws(list, "bench", {4096, 4096});
  constexpr double kElements = 4096.0 * 4096.0;
  for (std::size_t i = list.size() - 2; i < list.size(); ++i) {
    list[i].bench = true;
    list[i].forward = {.flops = 20 * kElements, .elements = kElements};
  }
  for (const Variant& variant : matrix_variants())
    list.push_back(dropout_case(variant.name, variant.input, 0.25));
  list.push_back(dropout_case("rare", {.shape = {5, 65}}, 0.01));
  list.push_back(dropout_case("bench", {.shape = {4096, 4096}}, 0.1));
  list.back().bench = true;
  list.back().forward = {.flops = 20 * kElements, .elements = 2 * kElements};
  return list;
}

}  // namespace candela::cases
