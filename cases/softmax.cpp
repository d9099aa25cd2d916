#include <candela/ops/softmax.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

std::vector<OpCase> softmax_cases_of(bool log) {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& input, int dim) {
    OpCase made = unary_case(
        log ? "log_softmax" : "softmax", {name, input},
        [log, dim](std::span<const Tensor> in) -> std::vector<Tensor> {
          return {log ? log_softmax(in[0], dim) : softmax(in[0], dim)};
        },
        [log, dim](std::span<const Tensor> in) -> std::vector<Tensor> {
          return {log ? composed::log_softmax(in[0], dim) : composed::softmax(in[0], dim)};
        });
    made.kernel = "softmax";
    made.kernel_grad = "softmax_grad";
    list.push_back(std::move(made));
  };
  for (const Variant& variant : matrix_variants()) {
    add_case(variant.name + "_last", variant.input, -1);
    if (variant.input.shape.rank() > 1) add_case(variant.name + "_first", variant.input, 0);
  }
  add_case("middle", {.shape = {3, 17, 40}}, 1);
  add_case("middle_transposed", {.shape = {3, 17, 40}, .arrange = Arrange::Transposed}, 1);
  // Columns too long to be kept between the passes; wide blocks of them, the last one narrower.
  add_case("long_columns", {.shape = {9000, 40}}, 0);
  add_case("long_masked_columns", {.shape = {9000, 9}, .fill = Fill::WithInfinity}, 0);
  add_case("long_mixed_columns", {.shape = {9000, 9}, .fill = Fill::MixedColumns}, 0);
  add_case("many_columns", {.shape = {40, 700}}, 0);
  // Columns that are kept and cut into chunks of rows, with other extremes in some of them.
  add_case("chunks", {.shape = {150, 70}}, 0);
  add_case("chunks_spread", {.shape = {150, 70}, .scale = 80}, 0);
  add_case("chunks_mixed", {.shape = {150, 70}, .fill = Fill::MixedColumns}, 0);
  add_case("chunks_mixed_narrow", {.shape = {150, 9}, .fill = Fill::MixedColumns}, 0);
  add_case("wide_pieces", {.shape = {2, 20011}, .scale = 20}, -1);
  add_case("spread", {.shape = {5, 129}, .scale = 40}, -1);
  add_case("ties", {.shape = {5, 33}, .fill = Fill::Ties}, -1);
  struct Bench {
    const char* name;
    Shape shape;
    int dim;
  };
  for (const Bench& bench :
       {Bench{"bench_rows_1024", {16384, 1024}, -1}, Bench{"bench_rows_32000", {512, 32000}, -1},
        Bench{"bench_first", {1024, 16384}, 0}}) {
    const auto elements = static_cast<double>(numel(bench.shape));
    add_case(bench.name, {.shape = bench.shape}, bench.dim);
    list.back().bench = true;
    list.back().forward = {.flops = 5 * elements, .elements = 2 * elements};
    list.back().backward = {.flops = 4 * elements, .elements = 3 * elements};
  }
  return list;
}

}  // namespace

std::vector<OpCase> softmax_cases() {
  std::vector<OpCase> list = softmax_cases_of(false);
  append(list, softmax_cases_of(true));
  return list;
}

}  // namespace candela::cases
