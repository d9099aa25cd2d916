#include <algorithm>
#include <string_view>

#include <candela/ops/matmul.h>

#include "cases/variants.h"

namespace candela::cases {
namespace {

/// Plain product: the reference is the same op in f64, which takes the loops kernel.
OpCase product_case(const std::string& name, const Input& a, const Input& b) {
  const Call call = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {matmul(in[0], in[1])}; };
  OpCase made{.op = "matmul", .name = name, .inputs = {a, b}, .fused = call, .composed = call};
  made.kernel = "matmul";
  made.kernel_grad = "matmul";
  return made;
}

struct Sizes {
  std::int64_t m, n, k;
};

/// Narrow and wide, odd, one element, and past the block sizes of the kernels.
constexpr Sizes kSizes[] = {{1, 1, 1},    {1, 7, 5},      {3, 5, 7},      {8, 33, 65},
                            {9, 16, 31},  {17, 3, 40},    {33, 65, 1},    {64, 64, 64},
                            {70, 90, 33}, {128, 300, 57}, {1, 1000, 300}, {5, 700, 100},
                            {300, 2, 77}, {40, 48, 2100}, {1100, 40, 70}, {33, 1030, 50}};

std::vector<OpCase> shape_cases() {
  std::vector<OpCase> list;
  for (const Sizes& size : kSizes) {
    for (const auto& [suffix, a, b] : {std::tuple{"nn", Arrange::Contiguous, Arrange::Contiguous},
                                       std::tuple{"nt", Arrange::Contiguous, Arrange::Transposed},
                                       std::tuple{"tn", Arrange::Transposed, Arrange::Contiguous},
                                       std::tuple{"tt", Arrange::Transposed, Arrange::Transposed}}) {
      list.push_back(product_case(fmt::format("{}x{}x{}_{}", size.m, size.n, size.k, suffix),
                                  {.shape = {size.m, size.k}, .arrange = a},
                                  {.shape = {size.k, size.n}, .arrange = b}));
    }
  }
  return list;
}

std::vector<OpCase> layout_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const char* name, const Input& a, const Input& b) {
    list.push_back(product_case(name, a, b));
  };
  add("batched", {.shape = {3, 17, 20}}, {.shape = {3, 20, 9}});
  add("batched_transposed", {.shape = {3, 17, 20}, .arrange = Arrange::Transposed},
      {.shape = {3, 20, 9}, .arrange = Arrange::Transposed});
  add("batched_4d", {.shape = {2, 3, 17, 20}}, {.shape = {2, 3, 20, 9}});
  add("broadcast_right", {.shape = {2, 3, 17, 20}}, {.shape = {20, 9}});
  add("broadcast_left", {.shape = {17, 20}}, {.shape = {4, 20, 9}, .arrange = Arrange::Transposed});
  add("broadcast_both", {.shape = {2, 1, 17, 20}}, {.shape = {3, 20, 9}});
  add("batched_large", {.shape = {2, 130, 150}}, {.shape = {2, 150, 260}});
  add("sliced", {.shape = {17, 40}, .arrange = Arrange::Sliced},
      {.shape = {40, 23}, .arrange = Arrange::Sliced});
  add("strided", {.shape = {17, 40}, .arrange = Arrange::Strided},
      {.shape = {40, 23}, .arrange = Arrange::Strided});
  add("row_broadcast", {.shape = {17, 40}, .arrange = Arrange::Broadcast}, {.shape = {40, 23}});
  add("wide", {.shape = {3, 20011}}, {.shape = {20011, 2}});
  add("wide_nt", {.shape = {9, 20011}}, {.shape = {20011, 10}, .arrange = Arrange::Transposed});
  add("wide_result", {.shape = {2, 3}}, {.shape = {3, 10007}});
  add("no_depth", {.shape = {3, 0}}, {.shape = {0, 5}});
  add("no_rows", {.shape = {0, 7}}, {.shape = {7, 5}});
  add("no_rows_transposed", {.shape = {0, 7}, .arrange = Arrange::Transposed},
      {.shape = {7, 5}, .arrange = Arrange::Transposed});
  add("no_columns_strided", {.shape = {3, 7}, .arrange = Arrange::Strided},
      {.shape = {7, 0}, .arrange = Arrange::Strided});
  add("no_batch_transposed", {.shape = {0, 3, 7}, .arrange = Arrange::Transposed},
      {.shape = {0, 7, 5}, .arrange = Arrange::Transposed});
  add("no_batch", {.shape = {0, 3, 7}}, {.shape = {0, 7, 5}});
  for (const auto& [name, fill] :
       {std::pair{"large", Fill::Large}, std::pair{"tiny", Fill::Tiny}, std::pair{"nan", Fill::WithNan},
        std::pair{"infinity", Fill::WithInfinity}}) {
    const std::string prefix = name;
    add(prefix.c_str(), {.shape = {20, 33}, .fill = fill}, {.shape = {33, 19}});
    add((prefix + "_narrow").c_str(), {.shape = {2, 33}, .fill = fill},
        {.shape = {33, 19}, .arrange = Arrange::Transposed});
  }
  return list;
}

struct Scaling {
  const char* name;
  double alpha, beta;
};

OpCase scaled_case(const Scaling& scaling, const std::string& name, const Input& a, const Input& b,
                   const Input& c) {
  const Call call = [scaling](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {matmul(in[0], in[1], in[2], scaling.alpha, scaling.beta)};
  };
  OpCase made{.op = "matmul_add", .name = name, .inputs = {a, b, c}, .fused = call, .composed = call};
  made.kernel = "matmul";
  made.kernel_grad = "matmul";
  return made;
}

std::vector<OpCase> scaled_cases() {
  std::vector<OpCase> list;
  for (const Sizes& size : {Sizes{1, 9, 40}, Sizes{40, 9, 33}, Sizes{70, 90, 33}}) {
    for (const Scaling& scaling :
         {Scaling{"add", 1, 1}, Scaling{"mix", 0.5, -2}, Scaling{"only_c", 0, 1.5}}) {
      list.push_back(scaled_case(scaling, fmt::format("{}_{}x{}x{}", scaling.name, size.m, size.n, size.k),
                                 {.shape = {size.m, size.k}},
                                 {.shape = {size.k, size.n}, .arrange = Arrange::Transposed},
                                 {.shape = {size.m, size.n}}));
    }
  }
  const auto add = [&](const std::string& name, const Input& a, const Input& b, const Input& c) {
    list.push_back(scaled_case({"mix", 0.5, -2}, name, a, b, c));
  };
  add("one_element", {.shape = {1, 1}}, {.shape = {1, 1}}, {.shape = {1, 1}});
  add("empty", {.shape = {0, 7}}, {.shape = {7, 5}}, {.shape = {0, 5}});
  add("no_depth", {.shape = {3, 0}}, {.shape = {0, 5}}, {.shape = {3, 5}});
  add("wide", {.shape = {3, 20011}}, {.shape = {20011, 2}}, {.shape = {3, 2}});
  add("wide_result", {.shape = {2, 3}}, {.shape = {3, 10007}}, {.shape = {2, 10007}});
  add("batched", {.shape = {3, 17, 20}}, {.shape = {3, 20, 9}}, {.shape = {3, 17, 9}});
  add("strided", {.shape = {17, 40}, .arrange = Arrange::Strided}, {.shape = {40, 23}},
      {.shape = {17, 23}, .arrange = Arrange::Transposed});
  for (const auto& [name, fill] :
       {std::pair{"large", Fill::Large}, std::pair{"tiny", Fill::Tiny}, std::pair{"nan", Fill::WithNan},
        std::pair{"infinity", Fill::WithInfinity}}) {
    add(std::string(name) + "_operand", {.shape = {20, 33}, .fill = fill}, {.shape = {33, 19}},
        {.shape = {20, 19}});
    add(std::string(name) + "_c", {.shape = {20, 33}}, {.shape = {33, 19}},
        {.shape = {20, 19}, .fill = fill});
  }
  add("bench_1024", {.shape = {1024, 1024}}, {.shape = {1024, 1024}}, {.shape = {1024, 1024}});
  list.back().bench = true;
  list.back().forward = {.flops = 2 * 0x1p30, .elements = 4 * 0x1p20};
  list.back().backward = {.flops = 4 * 0x1p30, .elements = 7 * 0x1p20};
  return list;
}

std::vector<OpCase> linear_cases() {
  std::vector<OpCase> list;
  struct Layer {
    const char* name;
    Input x;
    std::int64_t outputs;
    bool bias;
  };
  for (const Layer& layer :
       {Layer{"one_row", {.shape = {1, 64}}, 100, true}, Layer{"rank_3", {.shape = {2, 9, 40}}, 33, true},
        Layer{"one_element", {.shape = {1}}, 1, true}, Layer{"empty", {.shape = {0, 7}}, 5, true},
        Layer{"no_width", {.shape = {2, 3, 0}}, 5, true},
        Layer{"no_width_no_bias", {.shape = {4, 0}}, 5, false},
        Layer{"no_outputs", {.shape = {4, 3}}, 0, true}, Layer{"wide", {.shape = {3, 5003}}, 7, true},
        Layer{"large", {.shape = {6, 33}, .fill = Fill::Large}, 17, true},
        Layer{"tiny", {.shape = {6, 33}, .fill = Fill::Tiny}, 17, false},
        Layer{"nan", {.shape = {6, 33}, .fill = Fill::WithNan}, 17, true},
        Layer{"infinity", {.shape = {6, 33}, .fill = Fill::WithInfinity}, 17, true},
        Layer{"no_bias", {.shape = {30, 65}}, 48, false},
        Layer{"sliced", {.shape = {30, 65}, .arrange = Arrange::Sliced}, 48, true},
        Layer{"bench_2048x768x256", {.shape = {2048, 256}}, 768, true}}) {
    const Call call = [bias = layer.bias](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {linear(in[0], in[1], bias ? in[2] : Tensor())};
    };
    OpCase made{.op = "linear", .name = layer.name, .fused = call, .composed = call};
    made.inputs = {layer.x, {.shape = {layer.outputs, layer.x.shape.back()}}};
    if (layer.bias) made.inputs.push_back({.shape = {layer.outputs}});
    made.bench = std::string_view(layer.name).starts_with("bench");
    const auto x = static_cast<double>(numel(layer.x.shape));
    const auto weight = static_cast<double>(layer.outputs * layer.x.shape.back());
    const double flops = 2 * x * static_cast<double>(layer.outputs);
    const double y = x / static_cast<double>(std::max<std::int64_t>(layer.x.shape.back(), 1)) *
                     static_cast<double>(layer.outputs);
    made.forward = {.flops = flops, .elements = x + weight + y};
    made.backward = {.flops = 2 * flops, .elements = 2 * (x + weight) + y};
    made.kernel = "matmul";
    made.kernel_grad = "matmul";
    list.push_back(std::move(made));
  }
  return list;
}

std::vector<OpCase> bench_cases() {
  std::vector<OpCase> list;
  struct Bench {
    const char* name;
    Sizes size;
    bool transposed;
    bool backward = false;
  };
  for (const Bench& bench : {Bench{"bench_128", {128, 128, 128}, false, true},
                             Bench{"bench_1024", {1024, 1024, 1024}, false, true},
                             Bench{"bench_1024_nt", {1024, 1024, 1024}, true, true},
                             Bench{"bench_2048x768x256_nt", {2048, 768, 256}, true, true},
                             Bench{"bench_decode_4864x896", {1, 4864, 896}, true},
                             Bench{"bench_decode_151936x896", {1, 151936, 896}, true}}) {
    const auto [m, n, k] = bench.size;
    list.push_back(product_case(
        bench.name, {.shape = {m, k}},
        {.shape = {k, n}, .arrange = bench.transposed ? Arrange::Transposed : Arrange::Contiguous}));
    list.back().bench = true;
    const auto flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    list.back().forward = {.flops = flops, .elements = static_cast<double>(m * k + k * n + m * n)};
    if (bench.backward) {
      list.back().backward = {.flops = 2 * flops,
                              .elements = static_cast<double>(2 * (m * k + k * n) + m * n)};
    }
  }
  return list;
}

}  // namespace

std::vector<OpCase> matmul_cases() {
  std::vector<OpCase> list = shape_cases();
  append(list, layout_cases());
  append(list, scaled_cases());
  append(list, linear_cases());
  append(list, bench_cases());
  return list;
}

}  // namespace candela::cases
