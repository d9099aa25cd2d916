#include <cmath>

#include <candela/ops/attention.h>
#include <candela/ops/copy.h>

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
  double scale = 0;
  /// q_start
  std::vector<std::int32_t> starts = {};
  /// cu_seqlens
  std::vector<std::int32_t> bounds = {};
  /// window_after
  std::int64_t after = 0;
  /// of distance_bias, whose reach is 5; 0: none
  std::int64_t bias_heads = 0;
};

AttentionOptions options_of(const Mask& mask, Device device) {
  AttentionOptions options;
  options.causal = mask.causal;
  options.window = mask.window;
  options.window_after = mask.after;
  if (mask.bias_heads > 0) {
    std::vector<float> bias;
    for (std::int64_t i = 0; i < mask.bias_heads * 11; ++i)
      bias.push_back(static_cast<float>(std::sin(static_cast<double>(3 * i))));
    options.distance_bias = Tensor::from_values(bias, {mask.bias_heads, 11}, device);
  }
  options.scale = mask.scale;
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

/// q, k and v as heads of one packed tensor [B, T, (H + 2 K) D], as a group of projections gives them, with
/// or without rotation.
OpCase packed_case(const std::string& name, const Heads& shape, const Mask& mask, bool rotary) {
  const std::int64_t columns = (shape.heads + 2 * shape.key_heads) * shape.size;
  OpCase made{.op = "attention", .name = name, .inputs = {{.shape = {shape.batch, shape.queries, columns}}}};
  const auto call = [=](std::span<const Tensor> in, bool fused) -> std::vector<Tensor> {
    const std::vector<std::int64_t> widths = {shape.heads * shape.size, shape.key_heads * shape.size,
                                              shape.key_heads * shape.size};
    // rotary_attention takes q and k over; the case's inputs are used again.
    std::vector<Tensor> parts = split(clone(in[0]), -1, widths);
    for (Tensor& part : parts) part = reshape(part, {shape.batch, shape.queries, -1, shape.size});
    const AttentionOptions options = options_of(mask, in[0].device());
    if (!rotary) {
      return {fused ? attention(parts[0], parts[1], parts[2], options)
                    : composed::attention(parts[0], parts[1], parts[2], options)};
    }
    RopeConfig config;
    config.rotary_dim = shape.size / 2 * 2;
    const RopeTable table = rope_table(config, shape.queries, in[0].device());
    const Tensor positions = arange(shape.queries, DType::I32, in[0].device());
    if (fused) return {rotary_attention(parts[0], parts[1], parts[2], table, positions, options)};
    return {composed::attention(composed::rope(parts[0], table, positions),
                                composed::rope(parts[1], table, positions), parts[2], options)};
  };
  made.fused = [call](std::span<const Tensor> in) { return call(in, true); };
  made.composed = [call](std::span<const Tensor> in) { return call(in, false); };
  made.kernel = "attention";
  made.kernel_grad = "attention_grad";
  return made;
}

std::vector<OpCase> packed_cases() {
  const Heads shape = {2, 37, 37, 4, 2, 17};
  const Heads long_shape = {1, 150, 150, 4, 2, 16};
  return {
      packed_case("one_tensor", shape, {.name = "causal"}, false),
      packed_case("one_tensor_window", shape, {.name = "window", .window = 6}, false),
      packed_case("one_tensor_both_ways", long_shape,
                  {.name = "both", .causal = false, .window = 9, .after = 9}, true),
      packed_case("one_tensor_after_grouped", shape, {.name = "after", .causal = false, .after = 3}, false),
      packed_case("one_tensor_bias", long_shape, {.name = "bias", .causal = false, .bias_heads = 4}, false),
      packed_case("one_tensor_bias_causal", shape, {.name = "bias", .bias_heads = 4}, true),
      packed_case("one_tensor_bias_sequences", {1, 12, 12, 2, 1, 16},
                  {.name = "sequences", .causal = false, .bounds = {0, 5, 5, 12}, .bias_heads = 2}, false),
      packed_case("one_tensor_bias_one_token", {2, 1, 1, 2, 1, 16}, {.name = "bias", .bias_heads = 2}, false),
      packed_case("one_tensor_rotary", shape, {.name = "causal"}, true),
      packed_case("one_tensor_rotary_full", {2, 9, 9, 3, 3, 16}, {.name = "full", .causal = false}, true),
      packed_case("one_tensor_rotary_sequences", {1, 12, 12, 2, 1, 16},
                  {.name = "sequences", .bounds = {0, 5, 5, 12}}, true)};
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
        Named{"past_blocks", {1, 129, 257, 1, 1, 48}}, Named{"many_heads", {1, 33, 33, 24, 3, 20}},
        Named{"widest_head", {1, 70, 150, 2, 1, 320}}, Named{"wide_decode", {1, 1, 700, 12, 1, 130}}}) {
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
  // Runs of queries whose keys are met in parts, and some of which see keys of two parts.
  add({1, 520, 520, 8, 1, 4}, {.name = "window_across_parts", .window = 120});
  add({2, 20, 20, 4, 2, 16}, {.name = "negative_scale", .scale = -0.7});
  add({2, 1, 20, 4, 2, 16}, {.name = "negative_scale_decode", .scale = -0.7});
  add({2, 20, 20, 4, 2, 16}, {.name = "large_scale", .causal = false, .scale = 3});
  add({1, 200, 200, 2, 1, 16}, {.name = "packed", .bounds = {0, 70, 71, 140, 200}});
  add({1, 200, 200, 2, 1, 16}, {.name = "packed_full", .causal = false, .bounds = {0, 70, 71, 140, 200}});
  add({1, 200, 200, 2, 1, 16}, {.name = "packed_window", .window = 9, .bounds = {0, 70, 71, 140, 200}});
  return list;
}

/// Every feature, alone and together, small enough for finite differences.
std::vector<OpCase> small_cases() {
  std::vector<OpCase> list;
  const std::vector<std::int32_t> bounds = {0, 3, 4, 4, 9, 14};
  const Heads grouped{1, 14, 14, 6, 2, 5};
  for (const Mask& mask :
       {Mask{.name = "causal"}, Mask{.name = "full", .causal = false}, Mask{.name = "window", .window = 4},
        Mask{.name = "full_window", .causal = false, .window = 4}, Mask{.name = "packed", .bounds = bounds},
        Mask{.name = "packed_full", .causal = false, .bounds = bounds},
        Mask{.name = "packed_window", .window = 3, .bounds = bounds},
        Mask{.name = "late_queries", .starts = {-2}}}) {
    list.push_back(attention_case(fmt::format("small_grouped_{}", mask.name), grouped, mask));
  }
  list.push_back(attention_case("small_cache", {3, 4, 20, 4, 2, 6},
                                {.name = "cache", .window = 7, .starts = {0, 9, 16}}));
  list.push_back(attention_case("small_past_blocks", {1, 70, 300, 3, 1, 6}, {.name = "causal"}));
  list.push_back(attention_case("small_decode", {2, 1, 64, 6, 2, 8}, {.name = "causal"}));
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
  // One operand at a time with values that are not finite, under every mask. Narrow heads leave rows without.
  const Heads narrow{1, 40, 40, 4, 2, 3};
  for (const Mask& mask : {Mask{.name = "causal"}, Mask{.name = "window", .window = 4},
                           Mask{.name = "packed", .bounds = {0, 4, 5, 12, 40}},
                           Mask{.name = "packed_full", .causal = false, .bounds = {0, 4, 5, 12, 40}}}) {
    for (const auto& [name, fill] :
         {std::pair{"nan", Fill::WithNan}, std::pair{"infinity", Fill::WithInfinity}}) {
      for (const std::size_t input : {0, 1, 2}) {
        list.push_back(attention_case(fmt::format("{}_{}_{}", name, "qkv"[input], mask.name), narrow, mask));
        list.back().inputs[input].fill = fill;
      }
    }
  }
  return list;
}

/// Scores of 1e3 to 1e6, the same for every key: each weight is 1 / S, to the last bits, in spite of a sum of
/// exponentials whose logarithm is lost beside them. The gradients of q and k vanish, only v's is compared.
std::vector<OpCase> tie_cases() {
  std::vector<OpCase> list;
  struct Ties {
    const char* name;
    double value;  // the score is D value^2 / sqrt(D)
  };
  for (const Ties& ties : {Ties{"ties_1e3", 16}, Ties{"ties_1e4", 48}, Ties{"ties_1e6", 512}}) {
    for (const std::int64_t queries : {1, 40}) {
      list.push_back(attention_case(fmt::format("{}_{}", ties.name, queries == 1 ? "decode" : "rows"),
                                    {1, queries, 600, 2, 1, 16}, {.name = "full", .causal = false}));
      for (const std::size_t input : {0, 1}) {
        Input& tied = list.back().inputs[input];
        tied.fill = Fill::Uniform;
        tied.low = tied.high = ties.value;
        tied.gradient = false;
      }
    }
  }
  // Whole numbers: scores that tie exactly, in groups, far above the weights' logarithms.
  list.push_back(attention_case("ties_apart", {1, 30, 600, 2, 1, 4}, {.name = "causal"}, Fill::Ties));
  for (Input& input : list.back().inputs) input.fill = Fill::Ties;
  list.back().inputs[0].scale = 64;
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
        Bench{"bench_train_1024", {4, 1024, 1024, 14, 2, 64}},
        Bench{"bench_2048", {1, 2048, 2048, 14, 2, 64}},
        Bench{"bench_train_4096", {1, 4096, 4096, 28, 4, 128}},
        Bench{"bench_one_key_head", {1, 1024, 1024, 8, 1, 64}},
        Bench{"bench_decode_64", {1, 1, 64, 14, 2, 64}}, Bench{"bench_decode_512", {1, 1, 512, 14, 2, 64}},
        Bench{"bench_decode_2048", {1, 1, 2048, 14, 2, 64}},
        Bench{"bench_decode_8192", {1, 1, 8192, 14, 2, 64}},
        Bench{"bench_decode_batch", {8, 1, 2048, 28, 4, 128}}}) {
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
  append(list, packed_cases());
  append(list, mask_cases());
  append(list, small_cases());
  append(list, content_cases());
  append(list, tie_cases());
  append(list, bench_cases());
  return list;
}

}  // namespace candela::cases
