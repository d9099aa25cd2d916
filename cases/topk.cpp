#include <algorithm>
#include <cmath>
#include <numeric>

#include <candela/ops/copy.h>
#include <candela/ops/topk.h>

#include "cases/variants.h"

namespace candela::cases {
namespace {

/// Sorts every row: NaN first, then falling, the lower index first among equals. The values are picked with
/// slice, so that gradients flow.
std::vector<Tensor> topk_reference(const Tensor& x, std::int64_t k) {
  Shape shape = x.shape();
  const std::int64_t width = x.size(-1);
  shape[shape.rank() - 1] = k;
  if (x.numel() == 0) return {slice(x, -1, 0, k), Tensor::empty(shape, DType::I32)};
  const Tensor flat = reshape(contiguous(x), {x.numel()});
  const std::vector<double> values = flat.to_vector<double>();
  std::vector<Tensor> picked;
  std::vector<std::int32_t> indices;
  for (std::int64_t start = 0; start < x.numel(); start += width) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(width));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      const double left = values[static_cast<std::size_t>(start + a)];
      const double right = values[static_cast<std::size_t>(start + b)];
      if (std::isnan(left) || std::isnan(right)) return std::isnan(left) && !std::isnan(right);
      return left > right;
    });
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int32_t at = order[static_cast<std::size_t>(i)];
      indices.push_back(at);
      picked.push_back(slice(flat, 0, start + at, start + at + 1));
    }
  }
  return {reshape(concat(picked, 0), shape), Tensor::from_values(indices, shape)};
}

}  // namespace

std::vector<OpCase> topk_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& input, std::int64_t k) {
    OpCase made = unary_case(
        "topk", {name, input},
        [k](std::span<const Tensor> in) -> std::vector<Tensor> {
          TopkResult result = topk(in[0], k);
          return {result.values, result.indices};
        },
        [k](std::span<const Tensor> in) { return topk_reference(in[0], k); });
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
