#include <candela/ops/norm.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

constexpr double kEps = 1e-5;

struct BenchShape {
  const char* name;
  Shape shape;
};
const BenchShape kBench[] = {{"bench_rows_1024", {16384, 1024}},
                             {"bench_rows_4096", {4096, 4096}},
                             {"bench_few_rows_1024", {64, 1024}}};

/// Values of one sign over many rows: the rounding errors of the weight's gradient do not cancel.
const Input kManyRows{.shape = {30000, 12}, .fill = Fill::Uniform, .low = 0.09, .high = 0.11};
/// Deviations that are small against the mean.
const Input kOffset{.shape = {5, 300}, .fill = Fill::Uniform, .low = 9999, .high = 10001};

Input row_vector(const Input& x, double scale = 1) {
  return {.shape = {x.shape.back()}, .scale = scale};
}

std::vector<OpCase> rms_norm_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& x, double offset = 0) {
    OpCase made{.op = "rms_norm", .name = name, .inputs = {x, row_vector(x)}};
    made.fused = [offset](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {rms_norm(in[0], in[1], kEps, offset)};
    };
    made.composed = [offset](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {composed::rms_norm(in[0], in[1], kEps, offset)};
    };
    made.kernel = "rms_norm";
    made.kernel_grad = "rms_norm_grad";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) add_case(variant.name, variant.input);
  add_case("many_rows", kManyRows);
  for (const Shape& shape : {Shape{9, 33}, Shape{3, 4}, Shape{2, 5, 300}})
    add_case(fmt::format("plus_one_{}", shape[shape.rank() - 1]), {.shape = shape}, 1);
  for (const BenchShape& bench : kBench) {
    const auto elements = static_cast<double>(numel(bench.shape));
    add_case(bench.name, {.shape = bench.shape});
    list.back().bench = true;
    list.back().forward = {.flops = 4 * elements, .elements = 2 * elements};
    list.back().backward = {.flops = 10 * elements, .elements = 3 * elements};
  }
  return list;
}

std::vector<OpCase> add_rms_norm_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& x, double offset = 0) {
    Input residual = x;
    if (x.arrange == Arrange::Transposed) residual.arrange = Arrange::Contiguous;
    OpCase made{.op = "add_rms_norm", .name = name, .inputs = {x, residual, row_vector(x)}};
    made.fused = [offset](std::span<const Tensor> in) -> std::vector<Tensor> {
      auto [h, normed] = add_rms_norm(in[0], in[1], in[2], kEps, offset);
      return {h, normed};
    };
    made.composed = [offset](std::span<const Tensor> in) -> std::vector<Tensor> {
      auto [h, normed] = composed::add_rms_norm(in[0], in[1], in[2], kEps, offset);
      return {h, normed};
    };
    made.kernel = "rms_norm";
    made.kernel_grad = "rms_norm_grad";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) add_case(variant.name, variant.input);
  add_case("many_rows", kManyRows);
  add_case("plus_one", {.shape = {9, 33}}, 1);
  for (const BenchShape& bench : kBench) {
    const auto elements = static_cast<double>(numel(bench.shape));
    add_case(bench.name, {.shape = bench.shape});
    list.back().bench = true;
    list.back().forward = {.flops = 5 * elements, .elements = 4 * elements};
    // x and the residual are leaves here: each is given the gradient in memory of its own.
    list.back().backward = {.flops = 10 * elements, .elements = 4 * elements};
  }
  return list;
}

enum class Affine : std::uint8_t { Both, WeightOnly, None };

std::vector<OpCase> layer_norm_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& x, Affine affine) {
    OpCase made{.op = "layer_norm", .name = name, .inputs = {x}};
    if (affine != Affine::None) made.inputs.push_back(row_vector(x));
    if (affine == Affine::Both) made.inputs.push_back(row_vector(x, 0.5));
    const auto optional = [](std::span<const Tensor> in, std::size_t i) {
      return i < in.size() ? in[i] : Tensor();
    };
    made.fused = [optional](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {layer_norm(in[0], optional(in, 1), optional(in, 2), kEps)};
    };
    made.composed = [optional](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {composed::layer_norm(in[0], optional(in, 1), optional(in, 2), kEps)};
    };
    made.kernel = "layer_norm";
    made.kernel_grad = "layer_norm_grad";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) add_case(variant.name, variant.input, Affine::Both);
  add_case("many_rows", kManyRows, Affine::Both);
  add_case("offset", kOffset, Affine::Both);
  add_case("no_bias", {.shape = {5, 65}}, Affine::WeightOnly);
  add_case("plain", {.shape = {5, 65}}, Affine::None);
  for (const BenchShape& bench : kBench) {
    const auto elements = static_cast<double>(numel(bench.shape));
    add_case(bench.name, {.shape = bench.shape}, Affine::Both);
    list.back().bench = true;
    list.back().forward = {.flops = 7 * elements, .elements = 2 * elements};
    list.back().backward = {.flops = 13 * elements, .elements = 3 * elements};
  }
  return list;
}

}  // namespace

std::vector<OpCase> norm_cases() {
  std::vector<OpCase> list = rms_norm_cases();
  append(list, add_rms_norm_cases());
  append(list, layer_norm_cases());
  return list;
}

}  // namespace candela::cases
