#include <algorithm>
#include <cmath>

#include <candela/ops/loss.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

/// Class 0 stands for "ignored" in these cases, so that random targets hold ignored rows.
constexpr std::int64_t kIgnored = 0;

OpCase cross_entropy_case(const std::string& name, const Input& logits, DType index, std::int64_t ignored) {
  OpCase made{.op = "cross_entropy", .name = name, .inputs = {logits}};
  made.inputs.push_back({.shape = {logits.shape[0]}, .fill = Fill::Index, .gradient = false, .dtype = index});
  // Without classes every target is the ignored 0.
  made.inputs.back().high = static_cast<double>(std::max<std::int64_t>(logits.shape[1], 1));
  made.fused = [ignored](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {cross_entropy(in[0], in[1], ignored)};
  };
  made.composed = [ignored](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {composed::cross_entropy(in[0], in[1], ignored)};
  };
  made.kernel = "cross_entropy";
  made.kernel_grad = "cross_entropy_grad";
  return made;
}

std::vector<OpCase> cross_entropy_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const std::string& name, const Input& logits, DType index = DType::I64,
                       std::int64_t ignored = kIgnoreIndex) {
    list.push_back(cross_entropy_case(name, logits, index, ignored));
  };
  add("one_element", {.shape = {1, 1}});
  add("empty", {.shape = {0, 5}});
  add("empty_transposed", {.shape = {0, 5}, .arrange = Arrange::Transposed});
  add("empty_strided", {.shape = {0, 5}, .arrange = Arrange::Strided});
  add("no_classes", {.shape = {3, 0}}, DType::I64, kIgnored);
  for (const std::int64_t width : {3, 7, 17, 33, 65, 127, 130})
    add("width_" + std::to_string(width), {.shape = {5, width}}, DType::I32);
  add("wide_row", {.shape = {2, 100003}});
  add("ignored_rows", {.shape = {40, 5}}, DType::I64, kIgnored);
  add("spread", {.shape = {9, 129}, .scale = 40});
  add("large", {.shape = {6, 33}, .fill = Fill::Large});
  add("tiny", {.shape = {6, 33}, .fill = Fill::Tiny});
  add("nan", {.shape = {6, 65}, .fill = Fill::WithNan});
  add("infinity", {.shape = {6, 65}, .fill = Fill::WithInfinity});
  add("masked_rows", {.shape = {7, 33}, .fill = Fill::MaskedRows});
  add("ties", {.shape = {5, 33}, .fill = Fill::Ties});
  add("transposed", {.shape = {17, 9}, .arrange = Arrange::Transposed});
  add("sliced", {.shape = {5, 35}, .arrange = Arrange::Sliced});
  add("strided", {.shape = {5, 35}, .arrange = Arrange::Strided});
  add("broadcast", {.shape = {5, 33}, .arrange = Arrange::Broadcast});
  struct Bench {
    const char* name;
    Shape shape;
  };
  for (const Bench& bench :
       {Bench{"bench_2048x32000", {2048, 32000}}, Bench{"bench_8192x4096", {8192, 4096}}}) {
    const auto elements = static_cast<double>(numel(bench.shape));
    add(bench.name, {.shape = bench.shape});
    list.back().bench = true;
    list.back().forward = {.flops = 3 * elements, .elements = elements};
    list.back().backward = {.flops = 3 * elements, .elements = 2 * elements};
  }
  return list;
}

struct Head {
  std::string name;
  Input x;
  std::int64_t classes;
  DType index = DType::I64;
  std::int64_t ignored = kIgnoreIndex;
  Arrange weight = Arrange::Contiguous;
  /// of an adapter's share of the logits; 0: none
  std::int64_t rank = 0;
  std::optional<DType> adapter_dtype = {};
  /// the weight needs no gradient
  bool frozen = false;
};

OpCase linear_cross_entropy_case(const Head& head) {
  OpCase made{.op = "linear_cross_entropy", .name = head.name, .inputs = {head.x}};
  const std::int64_t width = head.x.shape[1];
  const double spread = 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(width, 1)));
  made.inputs.push_back(
      {.shape = {head.classes, width}, .arrange = head.weight, .gradient = !head.frozen, .scale = spread});
  made.inputs.push_back(
      {.shape = {head.x.shape[0]}, .fill = Fill::Index, .gradient = false, .dtype = head.index});
  made.inputs.back().high = static_cast<double>(std::max<std::int64_t>(head.classes, 1));
  if (head.rank > 0) {
    made.inputs.push_back({.shape = {head.x.shape[0], head.rank}, .dtype = head.adapter_dtype});
    made.inputs.push_back({.shape = {head.classes, head.rank}, .dtype = head.adapter_dtype});
  }
  const auto extra = [](std::span<const Tensor> in) {
    return in.size() > 3 ? LowRankLogits{in[3], in[4]} : LowRankLogits();
  };
  made.fused = [ignored = head.ignored, extra](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {linear_cross_entropy(in[0], in[1], in[2], ignored, extra(in))};
  };
  made.composed = [ignored = head.ignored, extra](std::span<const Tensor> in) -> std::vector<Tensor> {
    return {composed::linear_cross_entropy(in[0], in[1], in[2], ignored, extra(in))};
  };
  made.kernel = "linear_cross_entropy";
  made.kernel_grad = "linear_cross_entropy";
  return made;
}

std::vector<OpCase> linear_cross_entropy_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Head& head) { list.push_back(linear_cross_entropy_case(head)); };
  add({"one_element", {.shape = {1, 1}}, 1});
  add({"empty", {.shape = {0, 5}}, 7});
  add({"empty_transposed", {.shape = {0, 5}, .arrange = Arrange::Transposed}, 7});
  add({"empty_strided", {.shape = {0, 5}, .arrange = Arrange::Strided}, 7});
  add({"no_width", {.shape = {5, 0}}, 7});
  add({"no_classes", {.shape = {5, 8}}, 0, DType::I64, kIgnored});
  add({"odd", {.shape = {67, 33}}, 129, DType::I32});
  add({"ignored_rows", {.shape = {40, 33}}, 5, DType::I64, kIgnored});
  add({"all_ignored", {.shape = {6, 33}}, 1, DType::I64, kIgnored});
  // More rows than the largest chunk, and more classes than let a chunk be that large.
  add({"many_rows", {.shape = {1100, 8}}, 17, DType::I64, kIgnored});
  add({"many_classes", {.shape = {150, 4}}, 33000});
  add({"wide", {.shape = {3, 20011}}, 5});
  add({"sliced", {.shape = {12, 33}, .arrange = Arrange::Sliced}, 17});
  add({"transposed",
       {.shape = {12, 33}, .arrange = Arrange::Transposed},
       17,
       DType::I64,
       kIgnoreIndex,
       Arrange::Transposed});
  const auto adapted = [&](const char* name, const Input& x, std::int64_t classes, std::int64_t rank,
                           std::optional<DType> dtype, bool frozen) {
    Head head{name, x, classes, DType::I64, kIgnored};
    head.rank = rank;
    head.adapter_dtype = dtype;
    head.frozen = frozen;
    add(head);
  };
  adapted("adapter", {.shape = {12, 33}}, 17, 3, {}, true);
  adapted("adapter_f32", {.shape = {40, 33}}, 29, 5, DType::F32, true);
  adapted("adapter_beside_a_trained_weight", {.shape = {12, 33}}, 17, 3, {}, false);
  adapted("adapter_many_rows", {.shape = {1100, 8}}, 17, 2, DType::F32, true);
  adapted("adapter_empty", {.shape = {0, 5}}, 7, 2, {}, true);
  add({"large", {.shape = {6, 33}, .fill = Fill::Large}, 17});
  add({"tiny", {.shape = {6, 33}, .fill = Fill::Tiny}, 17});
  add({"nan", {.shape = {6, 33}, .fill = Fill::WithNan}, 17});
  add({"infinity", {.shape = {6, 33}, .fill = Fill::WithInfinity}, 17});
  add({"bench_2048x512x4096", {.shape = {2048, 512}}, 4096});
  const double flops = 2.0 * 2048 * 512 * 4096;
  list.back().bench = true;
  list.back().forward = {.flops = flops, .elements = 2048.0 * 512 + 4096.0 * 512};
  // The logits, then their gradient's two products; read x and the weight, write their gradients.
  list.back().gradient_in_forward = true;
  list.back().backward = {.flops = 3 * flops, .elements = 2 * (2048.0 * 512 + 4096.0 * 512)};
  return list;
}

}  // namespace

std::vector<OpCase> loss_cases() {
  std::vector<OpCase> list = cross_entropy_cases();
  append(list, linear_cross_entropy_cases());
  return list;
}

}  // namespace candela::cases
