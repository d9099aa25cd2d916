#include <algorithm>

#include <candela/ops/topk.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
std::vector<OpCase> topk_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& input, std::int64_t k) {
    OpCase made = unary_case(
        "topk", {name, input},
        [k](std::span<const Tensor> in) -> std::vector<Tensor> {
          TopkResult result = topk(in[0], k);
          return {result.values, result.indices};
        },
        [k](std::span<const Tensor> in) -> std::vector<Tensor> {
          TopkResult result = composed::topk(in[0], k);
          return {result.values, result.indices};
        });
    made.kernel = "topk";
    made.kernel_grad = "gather_grad";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) {
    const std::int64_t width = variant.input.shape.back();
    add_case(variant.name, variant.input, std::min<std::int64_t>(width, 5));
  }
  add_case("whole_row", {.shape = {4, 33}}, 33);
  add_case("one", {.shape = {4, 33}}, 1);
  add_case("sixteen", {.shape = {4, 200}}, 16);
  add_case("seventeen", {.shape = {4, 200}}, 17);
  add_case("ties", {.shape = {6, 65}, .fill = Fill::Ties}, 20);
  add_case("bench_k_50", {.shape = {256, 32000}}, 50);
  list.back().bench = true;
  list.back().forward = {.flops = 256.0 * 32000, .elements = 256.0 * 32000};
  return list;
}

}  // namespace candela::cases
