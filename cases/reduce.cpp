#include <cmath>
#include <fmt/ranges.h>

#include <candela/ops/copy.h>
#include <candela/ops/reduce.h>

#include "cases/variants.h"

namespace candela::cases {
namespace {

using Reduce = Tensor (*)(const Tensor&, const std::vector<int>&, bool);

struct Entry {
  const char* op;
  Reduce call;
  /// max and min refuse to reduce nothing
  bool extreme;
};

constexpr Entry kEntries[] = {
    {"sum", sum, false}, {"mean", mean, false}, {"sum_squares", sum_squares, false},
    {"max", max, true},  {"min", min, true},
};

struct Over {
  const char* name;
  std::vector<int> dims;
  bool keep;
};

std::vector<OpCase> reduce_cases_of(const Entry& entry) {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& input, const std::vector<int>& dims,
                            bool keep) {
    const Call call = [run = entry.call, dims, keep](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {run(in[0], dims, keep)};
    };
    OpCase made = unary_case(entry.op, {name, input}, call, call);
    made.kernel = "reduce";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) {
    const Shape& shape = variant.input.shape;
    const bool empty = numel(shape) == 0;
    add_case(variant.name + "_last", variant.input, {-1}, false);
    if (shape.rank() < 2) continue;
    // The largest of no elements is refused.
    if (!(entry.extreme && shape[0] == 0)) add_case(variant.name + "_first", variant.input, {0}, true);
    if (!(entry.extreme && empty)) add_case(variant.name + "_all", variant.input, {}, false);
  }
  for (const Over& over :
       {Over{"middle", {1}, false}, Over{"outer", {0, 2}, true}, Over{"inner", {1, 2}, false}}) {
    add_case(over.name, {.shape = {5, 7, 33}}, over.dims, over.keep);
    add_case(std::string(over.name) + "_transposed", {.shape = {5, 7, 33}, .arrange = Arrange::Transposed},
             over.dims, over.keep);
  }
  add_case("ties", {.shape = {5, 33}, .fill = Fill::Ties}, {-1}, false);
  add_case("tall", {.shape = {5000, 3}}, {0}, false);
  // Values of one sign: the rounding errors of a long running sum do not cancel.
  const Input deep{.shape = {40000, 16}, .fill = Fill::Uniform, .low = 0.09, .high = 0.11};
  add_case("deep", deep, {0}, false);
  Input sliced = deep;
  sliced.arrange = Arrange::Sliced;
  add_case("deep_sliced", sliced, {0}, false);
  add_case("deep_all", sliced, {}, false);
  // More elements than f16 has whole numbers, and a sum that it cannot hold.
  add_case("many", {.shape = {70001}, .fill = Fill::Uniform, .low = 0.5, .high = 1.5}, {-1}, false);
  add_case("many_columns", {.shape = {66000, 3}, .fill = Fill::Uniform, .low = 0.5, .high = 1.5}, {0}, false);
  add_case("many_equal", {.shape = {70001}, .fill = Fill::Uniform, .low = 2, .high = 2}, {-1}, false);
  constexpr double kElements = 4096.0 * 4096.0;
  for (const Over& over : {Over{"bench_last", {-1}, false}, Over{"bench_first", {0}, false}}) {
    add_case(over.name, {.shape = {4096, 4096}}, over.dims, over.keep);
    list.back().bench = true;
    list.back().forward = {.flops = kElements, .elements = kElements};
  }
  return list;
}

/// The position of the largest, found one element at a time: the first of equals, NaN before all.
Tensor argmax_reference(const Tensor& x, int dim) {
  const Tensor rows = contiguous(transpose(x, dim, -1));
  const std::vector<double> values = rows.to_vector<double>();
  const auto width = static_cast<std::size_t>(rows.size(-1));
  std::vector<std::int64_t> found;
  for (std::size_t start = 0; start < values.size(); start += width) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < width; ++i) {
      const double value = values[start + i];
      const double top = values[start + best];
      if (!std::isnan(top) && (std::isnan(value) || value > top)) best = i;
    }
    found.push_back(static_cast<std::int64_t>(best));
  }
  Shape shape = rows.shape();
  shape[shape.rank() - 1] = 1;
  return transpose(Tensor::from_values(found, shape), dim, -1);
}

std::vector<OpCase> argmax_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& input, int dim) {
    OpCase made = unary_case(
        "argmax", {name, input},
        [dim](std::span<const Tensor> in) -> std::vector<Tensor> { return {argmax(in[0], dim, true)}; },
        [dim](std::span<const Tensor> in) -> std::vector<Tensor> { return {argmax_reference(in[0], dim)}; });
    made.gradient = Gradient::Refused;
    made.kernel = "argmax";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) {
    const Shape& shape = variant.input.shape;
    add_case(variant.name + "_last", variant.input, -1);
    if (shape.rank() > 1 && shape[0] > 0) add_case(variant.name + "_first", variant.input, 0);
  }
  add_case("middle", {.shape = {3, 40, 5}}, 1);
  add_case("ties", {.shape = {5, 65}, .fill = Fill::Ties}, -1);
  add_case("bench", {.shape = {256, 32000}}, -1);
  list.back().bench = true;
  list.back().forward = {.flops = 256.0 * 32000, .elements = 256.0 * 32000};
  return list;
}

std::vector<OpCase> sum_to_cases() {
  std::vector<OpCase> list;
  for (const Shape& to : {Shape{33}, Shape{5, 1}, Shape{1, 33}, Shape{1}, Shape{3, 1, 33}}) {
    const Call call = [to](std::span<const Tensor> in) -> std::vector<Tensor> { return {sum_to(in[0], to)}; };
    OpCase made =
        unary_case("sum_to", {fmt::format("{}", fmt::join(to, "x")), {.shape = {3, 5, 33}}}, call, call);
    made.kernel = "reduce";
    list.push_back(std::move(made));
  }
  // To one row, and to one column, of every kind of input.
  for (const Variant& variant : matrix_variants()) {
    for (const bool row : {true, false}) {
      const Call call = [row](std::span<const Tensor> in) -> std::vector<Tensor> {
        Shape to = in[0].shape();
        if (row) to = {to.back()};
        if (!row) to[to.rank() - 1] = 1;
        return {sum_to(in[0], to)};
      };
      OpCase made =
          unary_case("sum_to", {variant.name + (row ? "_row" : "_column"), variant.input}, call, call);
      made.kernel = "reduce";
      list.push_back(std::move(made));
    }
  }
  return list;
}

}  // namespace

std::vector<OpCase> reduce_cases() {
  std::vector<OpCase> list;
  for (const Entry& entry : kEntries) append(list, reduce_cases_of(entry));
  append(list, sum_to_cases());
  append(list, argmax_cases());
  return list;
}

}  // namespace candela::cases
