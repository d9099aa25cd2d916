#include <candela/ops/rope.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

constexpr std::int64_t kTableLength = 50;

OpCase rope_case(const std::string& name, const Input& x, std::int64_t rotary, bool by_row) {
  OpCase made{.op = "rope", .name = name, .inputs = {x}};
  made.inputs.push_back({.shape = by_row ? Shape{x.shape[0], x.shape[1]} : Shape{x.shape[1]},
                         .fill = Fill::Index,
                         .gradient = false,
                         .dtype = DType::I32,
                         .high = kTableLength});
  const auto table_on = [rotary](Device device) {
    RopeConfig config;
    config.rotary_dim = rotary;
    return rope_table(config, kTableLength, device);
  };
  made.fused = [table_on](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {rope(in[0], table_on(in[0].device()), in[1])};
  };
  made.composed = [table_on](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {composed::rope(in[0], table_on(in[0].device()), in[1])};
  };
  made.kernel = "rope";
  made.kernel_grad = "rope";
  return made;
}

}  // namespace

std::vector<OpCase> rope_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const std::string& name, const Input& x, std::int64_t rotary, bool by_row = false) {
    list.push_back(rope_case(name, x, rotary, by_row));
  };
  add("one_pair", {.shape = {1, 1, 1, 2}}, 2);
  add("empty", {.shape = {0, 3, 2, 8}}, 8);
  add("no_tokens", {.shape = {2, 0, 2, 8}}, 8);
  add("empty_transposed", {.shape = {0, 3, 2, 8}, .arrange = Arrange::Transposed}, 8);
  add("empty_strided", {.shape = {2, 0, 2, 8}, .arrange = Arrange::Strided}, 8, true);
  add("heads", {.shape = {2, 9, 3, 64}}, 64);
  add("by_row", {.shape = {2, 9, 3, 64}}, 64, true);
  add("partial", {.shape = {2, 5, 3, 33}}, 14);
  add("odd_half", {.shape = {2, 5, 1, 34}}, 34);
  add("wide_head", {.shape = {1, 3, 2, 256}}, 256);
  add("wide", {.shape = {1, 2, 2, 10006}}, 10006);
  add("large", {.shape = {2, 3, 2, 34}, .fill = Fill::Large}, 34);
  add("tiny", {.shape = {2, 3, 2, 34}, .fill = Fill::Tiny}, 34);
  add("nan", {.shape = {2, 3, 2, 34}, .fill = Fill::WithNan}, 34);
  add("infinity", {.shape = {2, 3, 2, 34}, .fill = Fill::WithInfinity}, 34);
  for (const auto& [name, arrange] :
       {std::pair{"transposed", Arrange::Transposed}, std::pair{"sliced", Arrange::Sliced},
        std::pair{"strided", Arrange::Strided}, std::pair{"broadcast", Arrange::Broadcast}}) {
    add(name, {.shape = {2, 5, 3, 34}, .arrange = arrange}, 34);
  }
  const Shape shape = {16, 512, 14, 64};
  add("bench_16x512x14x64", {.shape = shape}, 64);
  const auto elements = static_cast<double>(numel(shape));
  list.back().bench = true;
  list.back().forward = {.flops = 3 * elements, .elements = 2 * elements};
  list.back().backward = {.flops = 3 * elements, .elements = 2 * elements};
  return list;
}

}  // namespace candela::cases
