#include <candela/ops/elementwise.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

using Unary = Tensor (*)(const Tensor&);
using Binary = Tensor (*)(const Tensor&, const Tensor&);

constexpr std::int64_t kBenchRows = 4096;
constexpr std::int64_t kBenchColumns = 4096;
constexpr double kBenchElements = 4096.0 * 4096.0;

struct UnaryEntry {
  const char* op;
  Unary call;
  /// the range of ordinary inputs; equal: normal
  double low = 0, high = 0;
  /// arithmetic per element, transcendental functions counted as one
  double flops = 1;
};

Tensor affine_by_case(const Tensor& x) {
  return affine(x, 1.75, -0.5);
}

constexpr UnaryEntry kUnary[] = {
    {"affine", affine_by_case, 0, 0, 2},
    {"neg", neg},
    {"exp", exp},
    {"log", log, 0.1, 3},
    {"sqrt", sqrt, 0.1, 3},
    {"rsqrt", rsqrt, 0.1, 3},
    {"reciprocal", reciprocal, 0.3, 3},
    {"square", square},
    {"abs", abs},
    {"tanh", tanh},
    {"sigmoid", sigmoid, 0, 0, 3},
    {"relu", relu},
    {"silu", silu, 0, 0, 4},
    {"gelu", gelu, 0, 0, 4},
    {"gelu_tanh", gelu_tanh, 0, 0, 8},
};

std::vector<OpCase> unary_cases(const UnaryEntry& entry) {
  std::vector<OpCase> list;
  const Call call = [run = entry.call](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {run(in[0])};
  };
  const auto add_case = [&](const Variant& variant) {
    OpCase made = unary_case(entry.op, variant, call, call);
    made.kernel = "unary";
    made.kernel_grad = "unary_grad";
    list.push_back(std::move(made));
  };
  for (Variant variant : matrix_variants()) {
    if (entry.low != entry.high) variant.input = within(variant.input, entry.low, entry.high);
    add_case(variant);
  }
  Variant spread{"spread", {.shape = {4, 129}, .scale = 12}};
  if (entry.low == entry.high) add_case(spread);
  add_case({"bench", {.shape = {kBenchRows, kBenchColumns}}});
  OpCase& bench = list.back();
  bench.bench = true;
  bench.forward = {.flops = entry.flops * kBenchElements, .elements = 2 * kBenchElements};
  bench.backward = {.flops = 2 * entry.flops * kBenchElements, .elements = 3 * kBenchElements};
  return list;
}

struct BinaryEntry {
  const char* op;
  Binary call;
  Gradient gradient = Gradient::Flows;
  /// range of b
  double low = 0, high = 0;
};

constexpr BinaryEntry kBinary[] = {
    {"add", add},
    {"sub", sub},
    {"mul", mul},
    {"div", div, Gradient::Flows, 0.4, 3},
    {"maximum", maximum},
    {"minimum", minimum},
    {"equal", equal, Gradient::Cut},
    {"greater", greater, Gradient::Cut},
    {"greater_equal", greater_equal, Gradient::Cut},
};

struct Pair {
  const char* name;
  Input a, b;
};

std::vector<Pair> binary_pairs() {
  return {
      {"one_element", {.shape = {1}}, {.shape = {1}}},
      {"empty", {.shape = {0, 5}}, {.shape = {0, 5}}},
      {"wide_row", {.shape = {2, 100003}}, {.shape = {2, 100003}}},
      {"width_7", {.shape = {3, 7}}, {.shape = {3, 7}}},
      {"width_33", {.shape = {3, 33}}, {.shape = {3, 33}}},
      {"width_127", {.shape = {3, 127}}, {.shape = {3, 127}}},
      {"row_vector", {.shape = {3, 4, 65}}, {.shape = {65}}},
      {"column", {.shape = {5, 65}}, {.shape = {5, 1}}},
      {"outer", {.shape = {7, 1}}, {.shape = {1, 33}}},
      {"scalar", {.shape = {1}}, {.shape = {3, 33}}},
      {"middle", {.shape = {2, 1, 17}}, {.shape = {2, 5, 17}}},
      {"large", {.shape = {4, 33}, .fill = Fill::Large}, {.shape = {4, 33}, .fill = Fill::Large}},
      {"tiny", {.shape = {4, 33}, .fill = Fill::Tiny}, {.shape = {4, 33}, .fill = Fill::Tiny}},
      {"nan", {.shape = {4, 65}, .fill = Fill::WithNan}, {.shape = {4, 65}, .fill = Fill::WithNan}},
      {"infinity",
       {.shape = {4, 65}, .fill = Fill::WithInfinity},
       {.shape = {4, 65}, .fill = Fill::WithInfinity}},
      {"ties", {.shape = {4, 65}, .fill = Fill::Ties}, {.shape = {4, 65}, .fill = Fill::Ties}},
      {"transposed", {.shape = {17, 9}, .arrange = Arrange::Transposed}, {.shape = {17, 9}}},
      {"sliced",
       {.shape = {5, 35}, .arrange = Arrange::Sliced},
       {.shape = {5, 35}, .arrange = Arrange::Sliced}},
      {"strided", {.shape = {5, 35}, .arrange = Arrange::Strided}, {.shape = {5, 35}}},
      {"broadcast", {.shape = {5, 33}}, {.shape = {5, 33}, .arrange = Arrange::Broadcast}},
      {"empty_transposed", {.shape = {0, 2, 3}, .arrange = Arrange::Transposed}, {.shape = {0, 2, 3}}},
      {"empty_strided", {.shape = {0, 2, 5}}, {.shape = {0, 2, 5}, .arrange = Arrange::Strided}},
  };
}

std::vector<OpCase> binary_cases(const BinaryEntry& entry) {
  std::vector<OpCase> list;
  const Call call = [run = entry.call](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {run(in[0], in[1])};
  };
  for (Pair pair : binary_pairs()) {
    if (entry.low != entry.high) pair.b = within(pair.b, entry.low, entry.high);
    OpCase made{
        .op = entry.op, .name = pair.name, .inputs = {pair.a, pair.b}, .fused = call, .composed = call};
    made.gradient = entry.gradient;
    made.kernel = "binary";
    list.push_back(std::move(made));
  }
  OpCase bench{.op = entry.op, .name = "bench", .fused = call, .composed = call};
  bench.inputs = {{.shape = {kBenchRows, kBenchColumns}}, {.shape = {kBenchRows, kBenchColumns}}};
  bench.gradient = entry.gradient;
  bench.kernel = "binary";
  bench.bench = true;
  bench.forward = {.flops = kBenchElements, .elements = 3 * kBenchElements};
  // Reads dy and writes both gradients; what is not a sum reads the operands too.
  const bool is_sum = entry.call == static_cast<Binary>(add) || entry.call == static_cast<Binary>(sub);
  if (entry.gradient == Gradient::Flows) {
    bench.backward = {.flops = is_sum ? 0 : 2 * kBenchElements,
                      .elements = (is_sum ? 3 : 5) * kBenchElements};
  }
  list.push_back(std::move(bench));
  return list;
}

/// A product of up and a function of gate.
std::vector<OpCase> gated_cases(const char* op, const char* prefix, const Call& call, const Call& reference,
                                bool bench) {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& gate, const Input& up) {
    OpCase made{.op = op, .name = prefix + name, .inputs = {gate, up}, .fused = call, .composed = reference};
    made.kernel = op;
    made.kernel_grad = std::string(op) + "_grad";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) {
    Input up = variant.input;
    if (variant.name == "sliced") up.arrange = Arrange::Transposed;
    add_case(variant.name, variant.input, up);
  }
  if (!bench) return list;
  add_case("bench", {.shape = {4096, 4096}}, {.shape = {4096, 4096}});
  list.back().bench = true;
  list.back().forward = {.flops = 5 * kBenchElements, .elements = 3 * kBenchElements};
  list.back().backward = {.flops = 12 * kBenchElements, .elements = 5 * kBenchElements};
  return list;
}

std::vector<OpCase> swiglu_cases() {
  const Call call = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {swiglu(in[0], in[1])}; };
  const Call reference = [](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {composed::swiglu(in[0], in[1])};
  };
  return gated_cases("swiglu", "", call, reference, true);
}

std::vector<OpCase> geglu_cases(GeluKind kind) {
  const Call call = [kind](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {geglu(in[0], in[1], kind)};
  };
  const Call reference = [kind](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {composed::geglu(in[0], in[1], kind)};
  };
  const bool tanh = kind == GeluKind::Tanh;
  return gated_cases("geglu", tanh ? "" : "exact_", call, reference, tanh);
}

}  // namespace

std::vector<OpCase> elementwise_cases() {
  std::vector<OpCase> list;
  for (const UnaryEntry& entry : kUnary) append(list, unary_cases(entry));
  for (const BinaryEntry& entry : kBinary) append(list, binary_cases(entry));
  append(list, swiglu_cases());
  append(list, geglu_cases(GeluKind::Tanh));
  append(list, geglu_cases(GeluKind::Exact));
  return list;
}

}  // namespace candela::cases
