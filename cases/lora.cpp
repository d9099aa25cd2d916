#include <cmath>

#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/lora.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

struct Branch {
  std::int64_t outputs;
  /// 0: no adapter
  std::int64_t rank = 0;
};

struct Group {
  std::string name;
  Input x;
  std::vector<Branch> branches;
  /// the adapters see an input of their own
  bool separate = false;
  std::optional<DType> adapter_dtype = {};
  bool bias = false;
  /// the adapters see x's memory, but send it no gradient
  bool detached = false;
};

/// Inputs in order: x, lora_x if separate, weight, bias if any, then a and b of each branch with an adapter.
OpCase lora_case(const Group& group) {
  OpCase made{.op = "lora_linear", .name = group.name, .inputs = {group.x}};
  const std::int64_t width = group.x.shape.back();
  const double spread = 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(width, 1)));
  std::int64_t outputs = 0;
  for (const Branch& branch : group.branches) outputs += branch.outputs;
  if (group.separate) made.inputs.push_back(group.x);
  made.inputs.push_back({.shape = {outputs, width}, .gradient = false, .scale = spread});
  if (group.bias) made.inputs.push_back({.shape = {outputs}, .gradient = false});
  for (const Branch& branch : group.branches) {
    if (branch.rank == 0) continue;
    made.inputs.push_back({.shape = {branch.rank, width}, .dtype = group.adapter_dtype, .scale = spread});
    made.inputs.push_back({.shape = {branch.outputs, branch.rank}, .dtype = group.adapter_dtype});
  }
  const auto call = [group](auto op, std::span<const Tensor> in) -> std::vector<Tensor> {
    std::size_t at = group.separate ? 2 : 1;
    const Tensor weight = in[at++];
    const Tensor bias = group.bias ? in[at++] : Tensor();
    std::vector<LowRank> adapters;
    std::int64_t first = 0;
    for (const Branch& branch : group.branches) {
      if (branch.rank > 0) {
        const double scale = 0.5 + static_cast<double>(adapters.size());
        adapters.push_back({in[at], in[at + 1], scale, first});
        at += 2;
      }
      first += branch.outputs;
    }
    const Tensor seen = group.separate ? in[1] : (group.detached ? in[0].detach() : Tensor());
    return {op(in[0], weight, bias, adapters, seen)};
  };
  made.fused = [call](std::span<const Tensor> in) { return call(lora_linear, in); };
  made.composed = [call](std::span<const Tensor> in) { return call(composed::lora_linear, in); };
  made.kernel = "lora_linear";
  made.kernel_grad = "lora_linear_grad";
  return made;
}

}  // namespace

std::vector<OpCase> lora_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Group& group) { list.push_back(lora_case(group)); };
  const std::vector<Branch> three = {{.outputs = 40, .rank = 4}, {.outputs = 17}, {.outputs = 9, .rank = 3}};
  const std::vector<Branch> last_only = {{.outputs = 9}, {.outputs = 17}, {.outputs = 12, .rank = 3}};
  add({"one_element", {.shape = {1, 1}}, {{.outputs = 1, .rank = 1}}});
  add({"empty", {.shape = {0, 8}}, {{.outputs = 5, .rank = 2}}});
  add({"empty_transposed", {.shape = {0, 2, 8}, .arrange = Arrange::Transposed}, three});
  add({"empty_strided", {.shape = {2, 0, 8}, .arrange = Arrange::Strided}, three});
  add({"no_width", {.shape = {2, 3, 0}}, three});
  add({"no_width_separate", {.shape = {5, 0}}, three, true});
  add({"no_outputs", {.shape = {6, 33}}, {{.outputs = 0, .rank = 2}, {.outputs = 5, .rank = 2}}});
  add({"no_outputs_at_all", {.shape = {6, 33}}, {{.outputs = 0, .rank = 2}}, false, {}, true});
  add({"one_row", {.shape = {1, 64}}, three, false, {}, true});
  add({"rank_3", {.shape = {2, 9, 33}}, three, false, {}, true});
  add({"separate_input", {.shape = {12, 33}}, three, true, {}, true});
  add({"f32_adapters", {.shape = {12, 33}}, three, false, DType::F32});
  add({"f32_adapters_separate", {.shape = {12, 33}}, three, true, DType::F32, true});
  // Ties: finite differences in x, which reach the adapters too, do not apply.
  add({.name = "detached_input",
       .x = {.shape = {12, 33}, .fill = Fill::Ties},
       .branches = three,
       .detached = true});
  add({"first_without_adapter", {.shape = {12, 33}}, last_only});
  add({"first_without_adapter_f32", {.shape = {12, 33}}, last_only, true, DType::F32, true});
  add({"no_adapter", {.shape = {12, 33}}, {{.outputs = 7}}, false, {}, true});
  add({"odd", {.shape = {67, 65}}, {{.outputs = 127, .rank = 7}, {.outputs = 3, .rank = 1}}});
  add({"wide", {.shape = {2, 5003}}, {{.outputs = 6, .rank = 2}}});
  add({"sliced", {.shape = {12, 33}, .arrange = Arrange::Sliced}, three});
  add({"transposed", {.shape = {12, 33}, .arrange = Arrange::Transposed}, three});
  add({"strided", {.shape = {12, 33}, .arrange = Arrange::Strided}, three});
  add({"large", {.shape = {6, 33}, .fill = Fill::Large}, three, false, DType::F32});
  add({"tiny", {.shape = {6, 33}, .fill = Fill::Tiny}, three, false, DType::F32});
  add({"nan", {.shape = {6, 33}, .fill = Fill::WithNan}, three});
  add({"infinity", {.shape = {6, 33}, .fill = Fill::WithInfinity}, three});
  struct Bench {
    const char* name;
    std::int64_t width;
    std::vector<Branch> branches;
  };
  constexpr std::int64_t kRows = 2048;
  for (const Bench& bench :
       {Bench{"bench_qkv",
              256,
              {{.outputs = 256, .rank = 16}, {.outputs = 128, .rank = 16}, {.outputs = 128, .rank = 16}}},
        Bench{"bench_gate_up", 256, {{.outputs = 768, .rank = 16}, {.outputs = 768, .rank = 16}}},
        Bench{"bench_down", 768, {{.outputs = 256, .rank = 16}}}}) {
    add({bench.name, {.shape = {kRows, bench.width}}, bench.branches, false, DType::F32});
    OpCase& made = list.back();
    made.bench = true;
    double base = 0;
    double adapter = 0;
    double elements = static_cast<double>(kRows * bench.width);
    for (const Branch& branch : bench.branches) {
      base += static_cast<double>(branch.outputs * bench.width);
      adapter += static_cast<double>(branch.rank * (branch.outputs + bench.width));
      elements += static_cast<double>(branch.outputs * (kRows + bench.width));
    }
    made.forward = {.flops = 2.0 * kRows * (base + adapter), .elements = elements};
    made.backward = {.flops = 2.0 * kRows * (base + 2 * adapter), .elements = elements};
  }
  return list;
}

}  // namespace candela::cases
