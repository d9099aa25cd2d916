#include <algorithm>
#include <cmath>
#include <iterator>

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

constexpr DType kIntegers[] = {DType::I64, DType::I32, DType::U8};
constexpr DType kFloats[] = {DType::F32, DType::BF16, DType::F16};

/// `made` again for integers, whose values are small and whole; `reference` must not go by way of
/// `made.fused`.
OpCase for_integers(OpCase made, Call reference) {
  made.name += "_integers";
  for (Input& input : made.inputs) {
    input.fill = Fill::Index;
    input.high = 200;
    input.gradient = false;
  }
  made.composed = std::move(reference);
  made.gradient = Gradient::Cut;
  made.dtypes.assign(std::begin(kIntegers), std::end(kIntegers));
  return made;
}

/// The elements picked one by one on the host: row-major positions of x, into `shape`.
Tensor picked(const Tensor& x, const Shape& shape, const std::vector<std::int64_t>& positions) {
  const std::vector<double> values = cast(x, DType::F64).to_vector<double>();
  std::vector<double> out;
  out.reserve(positions.size());
  for (const std::int64_t position : positions) out.push_back(values[static_cast<std::size_t>(position)]);
  return Tensor::from_values(out, shape);
}

/// Views, and what they become when they must be copied, of every kind of input.
void add_views(std::vector<OpCase>& list) {
  struct View {
    const char* op;
    Change change;
  };
  const View views[] = {
      {"reshape", [](const Tensor& x) { return reshape(x, {x.numel()}); }},
      {"transpose", [](const Tensor& x) { return contiguous(transpose(x, 0, -1)); }},
      {"slice", [](const Tensor& x) { return slice(x, -1, x.size(-1) / 3, x.size(-1)); }},
      {"broadcast_to",
       [](const Tensor& x) {
         Shape shape = x.shape();
         shape.insert(0, 2);
         return broadcast_to(x, shape);
       }},
      {"unsqueeze", [](const Tensor& x) { return unsqueeze(x, -1); }},
  };
  for (const View& view : views) {
    for (const Variant& variant : matrix_variants()) {
      list.push_back(copy_case(view.op, variant.name, variant.input, same(view.change), same(view.change)));
    }
  }
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
  add_case("slice", "nothing", plain, [](const Tensor& x) { return slice(x, 1, 2, 2); });
  add_case("broadcast_to", "one_row", {.shape = {1, 33}}, [](const Tensor& x) {
    return broadcast_to(x, {4, 5, 33});
  });
  add_case("broadcast_to", "one_column", {.shape = {5, 1}}, [](const Tensor& x) {
    return broadcast_to(x, {5, 7});
  });
  add_case("unsqueeze", "middle", plain, [](const Tensor& x) { return unsqueeze(x, 1); });
}

/// Copies, views and joins of integers: their results are the values that went in, in another order.
void add_integers(std::vector<OpCase>& list) {
  const auto add = [&](const char* op, const Input& input, Change change, Call reference) {
    list.push_back(for_integers(copy_case(op, "plain", input, same(change), {}), std::move(reference)));
  };
  const Call unchanged = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {in[0]}; };
  for (const Variant& variant : matrix_variants()) {
    if (variant.input.fill != Fill::Normal) continue;  // integers have no NaN, infinity or tiny values
    OpCase made = copy_case("clone", variant.name, variant.input, same(clone), {});
    list.push_back(for_integers(std::move(made), unchanged));
  }
  add(
      "slice", {.shape = {3, 4}}, [](const Tensor& x) { return slice(x, 1, 1, 3); },
      [](std::span<const Tensor> in) -> std::vector<Tensor> {
        return {picked(in[0], {3, 2}, {1, 2, 5, 6, 9, 10})};
      });
  add(
      "transpose", {.shape = {2, 3}}, [](const Tensor& x) { return contiguous(transpose(x, 0, 1)); },
      [](std::span<const Tensor> in) -> std::vector<Tensor> {
        return {picked(in[0], {3, 2}, {0, 3, 1, 4, 2, 5})};
      });
  OpCase joined{.op = "concat",
                .name = "plain",
                .inputs = {{.shape = {2, 2}}, {.shape = {2, 1}, .arrange = Arrange::Strided}},
                .fused = [](std::span<const Tensor> in) -> std::vector<Tensor> {
                  return {concat({in[0], in[1]}, 1)};
                }};
  joined.kernel = "copy";
  list.push_back(for_integers(std::move(joined), [](std::span<const Tensor> in) -> std::vector<Tensor> {
    const Tensor left = picked(in[0], {4}, {0, 1, 2, 3});
    const Tensor right = picked(in[1], {2}, {0, 1});
    const double* l = left.data<double>();
    const double* r = right.data<double>();
    return {Tensor::from_values(std::vector<double>{l[0], l[1], r[0], l[2], l[3], r[1]}, {2, 3})};
  }));
}

/// Every element is `value`, cut off where the dtype holds whole numbers.
void add_fills(std::vector<OpCase>& list) {
  constexpr double kValue = 3.75;
  for (const Variant& variant : matrix_variants()) {
    if (variant.input.arrange == Arrange::Broadcast) continue;  // refused: its elements share memory
    Input input = variant.input;
    input.gradient = false;
    OpCase made{.op = "fill_", .name = variant.name, .inputs = {input}};
    made.fused = [](std::span<const Tensor> in) -> std::vector<Tensor> {
      const Tensor target = in[0].detach();
      fill_(target, kValue);
      return {target};
    };
    made.composed = [](std::span<const Tensor> in) -> std::vector<Tensor> {
      const double expected = is_floating(in[0].dtype()) ? kValue : std::trunc(kValue);
      const auto count = static_cast<std::size_t>(in[0].numel());
      return {Tensor::from_values(std::vector<double>(count, expected), in[0].shape())};
    };
    made.gradient = Gradient::Cut;
    made.kernel = "fill";
    if (input.fill == Fill::Normal) list.push_back(for_integers(made, made.composed));
    list.push_back(std::move(made));
  }
}

void add_concats(std::vector<OpCase>& list) {
  struct Join {
    std::string name;
    int dim;
    std::vector<Input> inputs;
  };
  std::vector<Join> joins = {
      {"rows", 0, {{.shape = {3, 17}}, {.shape = {5, 17}}, {.shape = {1, 17}}}},
      {"columns", -1, {{.shape = {4, 3}}, {.shape = {4, 33}}}},
      {"middle_strided",
       1,
       {{.shape = {2, 5, 7}, .arrange = Arrange::Transposed},
        {.shape = {2, 3, 7}, .arrange = Arrange::Sliced}}},
      {"with_empty", 0, {{.shape = {0, 5}}, {.shape = {3, 5}}}},
  };
  for (const Variant& variant : matrix_variants()) {
    joins.push_back({"rows_" + variant.name, 0, {variant.input, variant.input}});
    if (variant.input.shape.rank() > 1) {
      Input narrow = variant.input;
      narrow.shape[narrow.shape.rank() - 1] = 2;
      joins.push_back({"columns_" + variant.name, -1, {narrow, variant.input}});
    }
  }
  joins.push_back({"bench_columns", -1, {{.shape = {4096, 1365}}, {.shape = {4096, 2731}}}});
  for (const Join& join : joins) {
    const Call call = [dim = join.dim](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {concat({in.begin(), in.end()}, dim)};
    };
    OpCase made{.op = "concat", .name = join.name, .inputs = join.inputs, .fused = call, .composed = call};
    made.kernel = "copy";
    made.bench = join.name.starts_with("bench");
    made.forward = {.elements = 2 * 4096.0 * 4096};
    made.backward = {.elements = 2 * 4096.0 * 4096};
    list.push_back(std::move(made));
  }
}

/// What casting gives, converted on the host, one value at a time; in f64, which holds all of it.
Tensor converted(const Tensor& x, DType to) {
  std::vector<double> values = cast(x, DType::F64).to_vector<double>();
  const bool wide = to == DType::I64;
  const double low = to == DType::U8 ? 0 : (wide ? -0x1p63 : -0x1p31);
  const double high = to == DType::U8 ? 255 : (wide ? 0x1p63 : 0x1p31 - 1);
  for (double& value : values) {
    if (!is_floating(to)) value = std::isnan(value) ? 0 : std::clamp(std::trunc(value), low, high);
  }
  return Tensor::from_values(values, x.shape());
}

/// From and to integers: from floats, throws where a gradient is needed; from integers, there is none.
void add_integer_casts(std::vector<OpCase>& list) {
  const auto cast_case = [](DType to, const std::string& name, const Input& input) {
    return copy_case(
        "cast", fmt::format("to_{}_{}", to_string(to), name), input,
        [to](std::span<const Tensor> in) -> std::vector<Tensor> { return {cast(in[0], to)}; },
        [to](std::span<const Tensor> in) -> std::vector<Tensor> { return {converted(in[0], to)}; });
  };
  for (const DType to : kIntegers) {
    for (const Variant& variant : matrix_variants()) {
      Input input = variant.input;
      if (input.fill == Fill::Normal) input.scale = 300;  // beyond u8 on both sides
      OpCase made = cast_case(to, variant.name, input);
      made.gradient = Gradient::Refused;
      list.push_back(std::move(made));
    }
  }
  for (const DType to : {DType::F32, DType::F16, DType::I64, DType::I32, DType::U8}) {
    for (const Arrange arrange : {Arrange::Contiguous, Arrange::Transposed, Arrange::Strided}) {
      const std::string name = fmt::format("arranged_{}", static_cast<int>(arrange));
      OpCase made = cast_case(to, name, {.shape = {5, 33}, .arrange = arrange});
      const Call reference = made.composed;
      list.push_back(for_integers(std::move(made), reference));
    }
  }
}

void add_casts(std::vector<OpCase>& list) {
  for (const DType to : kFloats) {
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
  add_integer_casts(list);
  add_integers(list);
  add_fills(list);
  return list;
}

}  // namespace candela::cases
