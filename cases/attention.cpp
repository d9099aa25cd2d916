#include <candela/ops/attention.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

struct Heads {
  std::int64_t batch, queries, keys, heads, key_heads, size;
};

struct Mask {
  const char* name;
  bool causal = true;
  std::int64_t window = 0;
  std::vector<std::int32_t> starts = {};  ///< q_start
  std::vector<std::int32_t> bounds = {};  ///< cu_seqlens
};

AttentionOptions options_of(const Mask& mask, Device device) {
  AttentionOptions options;
  options.causal = mask.causal;
  options.window = mask.window;
  const auto vector_on = [&](const std::vector<std::int32_t>& values) {
    return values.empty() ? Tensor()
                          : Tensor::from_values(values, {static_cast<std::int64_t>(values.size())}, device);
  };
  options.q_start = vector_on(mask.starts);
  options.cu_seqlens = vector_on(mask.bounds);
  return options;
}

OpCase attention_case(const std::string& name, const Heads& shape, const Mask& mask, Fill fill = Fill::Normal,
                      Arrange arrange = Arrange::Contiguous) {
  const Input q{
      .shape = {shape.batch, shape.queries, shape.heads, shape.size}, .fill = fill, .arrange = arrange};
  const Input k{.shape = {shape.batch, shape.keys, shape.key_heads, shape.size}, .arrange = arrange};
  OpCase made{.op = "attention", .name = name, .inputs = {q, k, k}};
  made.fused = [mask](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {attention(in[0], in[1], in[2], options_of(mask, in[0].device()))};
  };
  made.composed = [mask](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {composed::attention(in[0], in[1], in[2], options_of(mask, in[0].device()))};
  };
  made.kernel = "attention";
  made.kernel_grad = "attention_grad";
  return made;
}

std::vector<OpCase> shape_cases() {
  std::vector<OpCase> list;
  struct Named {
    const char* name;
    Heads shape;
  };
  for (const Named& named :
       {Named{"one_element", {1, 1, 1, 1, 1, 1}}, Named{"odd", {2, 5, 5, 2, 1, 7}},
        Named{"decode", {2, 1, 300, 6, 2, 64}}, Named{"grouped", {2, 70, 70, 4, 2, 16}},
        Named{"longer_keys", {1, 130, 300, 2, 2, 33}}, Named{"wide_head", {1, 9, 40, 2, 1, 256}},
        Named{"past_blocks", {1, 129, 257, 1, 1, 48}}}) {
    for (const Mask& mask :
         {Mask{.name = "causal"}, Mask{.name = "full", .causal = false}, Mask{.name = "window", .window = 6},
          Mask{.name = "full_window", .causal = false, .window = 6}}) {
      list.push_back(attention_case(fmt::format("{}_{}", named.name, mask.name), named.shape, mask));
    }
  }
  list.push_back(attention_case("no_rows", {0, 4, 4, 2, 1, 8}, {.name = "causal"}));
  list.push_back(attention_case("no_keys", {1, 4, 0, 2, 1, 8}, {.name = "causal"}));
  for (Input& input : list.back().inputs) input.gradient = false;
  return list;
}

std::vector<OpCase> mask_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Heads& shape, const Mask& mask) {
    list.push_back(attention_case(mask.name, shape, mask));
  };
  add({3, 4, 40, 2, 1, 16}, {.name = "cache_starts", .starts = {0, 10, 36}});
  add({3, 1, 40, 4, 2, 16}, {.name = "cache_decode", .starts = {0, 17, 39}});
  add({3, 1, 40, 4, 2, 16}, {.name = "cache_decode_window", .window = 5, .starts = {0, 17, 39}});
  add({2, 70, 200, 2, 1, 16}, {.name = "cache_prefill", .starts = {0, 130}});
  // Queries that stand before the first key, or whose window has left the last one, see nothing.
  add({1, 9, 4, 2, 1, 8}, {.name = "sees_nothing"});
  add({1, 6, 4, 2, 1, 8}, {.name = "window_left", .window = 2, .starts = {3}});
  add({1, 200, 200, 2, 1, 16}, {.name = "packed", .bounds = {0, 70, 71, 140, 200}});
  add({1, 200, 200, 2, 1, 16}, {.name = "packed_full", .causal = false, .bounds = {0, 70, 71, 140, 200}});
  add({1, 200, 200, 2, 1, 16}, {.name = "packed_window", .window = 9, .bounds = {0, 70, 71, 140, 200}});
  return list;
}

std::vector<OpCase> content_cases() {
  std::vector<OpCase> list;
  const Heads shape{2, 20, 20, 4, 2, 16};
  const Mask full{.name = "full", .causal = false};
  for (const auto& [name, fill] : {std::pair{"large", Fill::Large}, std::pair{"tiny", Fill::Tiny},
                                   std::pair{"nan", Fill::WithNan}, std::pair{"ties", Fill::Ties}}) {
    list.push_back(attention_case(name, shape, full, fill));
  }
  for (const auto& [name, arrange] :
       {std::pair{"transposed", Arrange::Transposed}, std::pair{"sliced", Arrange::Sliced},
        std::pair{"strided", Arrange::Strided}, std::pair{"broadcast", Arrange::Broadcast}}) {
    list.push_back(attention_case(name, shape, {.name = "causal"}, Fill::Normal, arrange));
  }
  list.push_back(attention_case("sliced_decode", {2, 1, 20, 4, 2, 16}, {.name = "causal"}, Fill::Normal,
                                Arrange::Sliced));
  return list;
}

std::vector<OpCase> bench_cases() {
  std::vector<OpCase> list;
  struct Bench {
    const char* name;
    Heads shape;
  };
  for (const Bench& bench :
       {Bench{"bench_train_128", {16, 128, 128, 8, 4, 32}}, Bench{"bench_512", {2, 512, 512, 14, 2, 64}},
        Bench{"bench_2048", {1, 2048, 2048, 14, 2, 64}},
        Bench{"bench_decode_2048", {1, 1, 2048, 14, 2, 64}}}) {
    const Heads& s = bench.shape;
    list.push_back(attention_case(bench.name, s, {.name = "causal"}));
    // Causal with T = S: half of the products count; one query counts them all.
    const double seen = s.queries == 1
                            ? static_cast<double>(s.keys)
                            : static_cast<double>(s.queries) * static_cast<double>(s.queries + 1) / 2;
    const double flops = 4.0 * seen * static_cast<double>(s.batch * s.heads * s.size);
    const auto elements = static_cast<double>(2 * s.batch * s.queries * s.heads * s.size +
                                              2 * s.batch * s.keys * s.key_heads * s.size);
    list.back().bench = true;
    list.back().forward = {.flops = flops, .elements = elements};
    if (s.queries > 1) list.back().backward = {.flops = 2.5 * flops, .elements = 2 * elements};
  }
  return list;
}

}  // namespace

std::vector<OpCase> attention_cases() {
  std::vector<OpCase> list = shape_cases();
  append(list, mask_cases());
  append(list, content_cases());
  append(list, bench_cases());
  return list;
}

}  // namespace candela::cases
