#include <candela/ops/copy.h>

#include "cases/variants.h"

namespace candela::cases {
namespace {

using Change = Tensor (*)(const Tensor&);

OpCase copy_case(const char* op, const std::string& name, const Input& input, Call call, Call reference) {
  OpCase made = unary_case(op, {name, input}, std::move(call), std::move(reference));
  made.kernel = "copy";
  return made;
}

Call same(Change change) {
  return [change](std::span<const Tensor> in) -> std::vector<Tensor> { return {change(in[0])}; };
}

/// Views and what they become when they must be copied.
void add_views(std::vector<OpCase>& list) {
  const Input plain{.shape = {6, 4, 10}};
  const Input turned{.shape = {6, 4, 10}, .arrange = Arrange::Transposed};
  const auto add_case = [&](const char* op, const char* name, const Input& input, Change change) {
    list.push_back(copy_case(op, name, input, same(change), same(change)));
  };
  const Change merge = [](const Tensor& x) { return reshape(x, {-1, 10}); };
  const Change flatten = [](const Tensor& x) { return reshape(x, {240}); };
  add_case("reshape", "view", plain, merge);
  add_case("reshape", "copy", turned, flatten);
  add_case("transpose", "last", plain, [](const Tensor& x) { return contiguous(transpose(x, 1, 2)); });
  add_case("transpose", "ends", plain, [](const Tensor& x) { return contiguous(transpose(x, 0, 2)); });
  add_case("slice", "rows", plain, [](const Tensor& x) { return slice(x, 0, 1, 4); });
  add_case("slice", "columns", plain, [](const Tensor& x) { return slice(x, -1, -7, -2); });
  add_case("slice", "empty", plain, [](const Tensor& x) { return slice(x, 1, 2, 2); });
  add_case("broadcast_to", "rows", {.shape = {1, 33}}, [](const Tensor& x) {
    return broadcast_to(x, {4, 5, 33});
  });
  add_case("broadcast_to", "columns", {.shape = {5, 1}}, [](const Tensor& x) {
    return broadcast_to(x, {5, 7});
  });
  add_case("unsqueeze", "middle", plain, [](const Tensor& x) { return unsqueeze(x, 1); });
}

void add_concats(std::vector<OpCase>& list) {
  struct Join {
    const char* name;
    int dim;
    std::vector<Input> inputs;
  };
  const std::vector<Join> joins = {
      {"rows", 0, {{.shape = {3, 17}}, {.shape = {5, 17}}, {.shape = {1, 17}}}},
      {"columns", -1, {{.shape = {4, 3}}, {.shape = {4, 33}}}},
      {"middle_strided",
       1,
       {{.shape = {2, 5, 7}, .arrange = Arrange::Transposed},
        {.shape = {2, 3, 7}, .arrange = Arrange::Sliced}}},
      {"with_empty", 0, {{.shape = {0, 5}}, {.shape = {3, 5}}}},
  };
  for (const Join& join : joins) {
    const Call call = [dim = join.dim](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {concat({in.begin(), in.end()}, dim)};
    };
    OpCase made{.op = "concat", .name = join.name, .inputs = join.inputs, .fused = call, .composed = call};
    made.kernel = "copy";
    list.push_back(std::move(made));
  }
}

void add_casts(std::vector<OpCase>& list) {
  for (const DType to : {DType::F32, DType::BF16, DType::F16}) {
    for (const Variant& variant : matrix_variants()) {
      OpCase made = copy_case(
          "cast", fmt::format("to_{}_{}", to_string(to), variant.name), variant.input,
          [to](std::span<const Tensor> in) -> std::vector<Tensor> { return {cast(in[0], to)}; },
          // The values themselves: the format's own rounding is within the limits.
          [](std::span<const Tensor> in) -> std::vector<Tensor> { return {clone(in[0])}; });
      list.push_back(std::move(made));
    }
    OpCase bench = copy_case(
        "cast", fmt::format("bench_to_{}", to_string(to)), {.shape = {4096, 4096}},
        [to](std::span<const Tensor> in) -> std::vector<Tensor> { return {cast(in[0], to)}; },
        same([](const Tensor& x) { return clone(x); }));
    bench.bench = true;
    bench.forward = {.elements = 4096.0 * 4096,
                     .fixed_bytes = 4096.0 * 4096 * static_cast<double>(size_of(to))};
    list.push_back(std::move(bench));
  }
}

}  // namespace

std::vector<OpCase> copy_cases() {
  std::vector<OpCase> list;
  for (const Variant& variant : matrix_variants()) {
    list.push_back(copy_case("clone", variant.name, variant.input, same(clone), same(clone)));
  }
  OpCase whole = copy_case("clone", "bench", {.shape = {4096, 4096}}, same(clone), same(clone));
  OpCase turned =
      copy_case("clone", "bench_transposed", {.shape = {4096, 4096}, .arrange = Arrange::Transposed},
                same(clone), same(clone));
  for (OpCase* bench : {&whole, &turned}) {
    bench->bench = true;
    bench->forward = {.elements = 2 * 4096.0 * 4096};
    list.push_back(*bench);
  }
  add_views(list);
  add_concats(list);
  add_casts(list);
  return list;
}

}  // namespace candela::cases
