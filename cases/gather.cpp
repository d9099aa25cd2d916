#include <candela/ops/gather.h>

#include "cases/variants.h"
#include "ops/composed.h"

namespace candela::cases {
namespace {

Input indices(const Shape& shape, std::int64_t bound, DType dtype, Arrange arrange = Arrange::Contiguous) {
  Input input{.shape = shape, .fill = Fill::Index, .arrange = arrange, .gradient = false, .dtype = dtype};
  input.high = static_cast<double>(bound);
  return input;
}

std::vector<OpCase> embedding_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& weight, const Input& ids) {
    OpCase made{.op = "embedding", .name = name, .inputs = {weight, ids}};
    made.fused = [](std::span<const Tensor> in) -> std::vector<Tensor> { return {embedding(in[0], in[1])}; };
    made.composed = [](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {composed::embedding(in[0], in[1])};
    };
    made.kernel = "embedding";
    made.kernel_grad = "embedding_grad";
    list.push_back(std::move(made));
  };
  add_case("one_element", {.shape = {1, 1}}, indices({1}, 1, DType::I32));
  add_case("empty", {.shape = {5, 8}}, indices({0}, 5, DType::I32));
  for (const std::int64_t width : {1, 3, 7, 17, 33, 65, 127}) {
    add_case(fmt::format("width_{}", width), {.shape = {11, width}}, indices({3, 7}, 11, DType::I32));
  }
  add_case("i64", {.shape = {11, 33}}, indices({4, 5}, 11, DType::I64));
  add_case("repeats", {.shape = {3, 33}}, indices({200}, 3, DType::I32));
  add_case("wide_row", {.shape = {3, 100003}}, indices({4}, 3, DType::I32));
  add_case("nan", {.shape = {9, 33}, .fill = Fill::WithNan}, indices({20}, 9, DType::I32));
  add_case("infinity", {.shape = {9, 33}, .fill = Fill::WithInfinity}, indices({20}, 9, DType::I32));
  add_case("large", {.shape = {9, 33}, .fill = Fill::Large}, indices({20}, 9, DType::I32));
  add_case("tiny", {.shape = {9, 33}, .fill = Fill::Tiny}, indices({20}, 9, DType::I32));
  add_case("transposed", {.shape = {9, 33}, .arrange = Arrange::Transposed}, indices({20}, 9, DType::I32));
  add_case("sliced", {.shape = {9, 33}, .arrange = Arrange::Sliced},
           indices({20}, 9, DType::I32, Arrange::Strided));
  add_case("bench", {.shape = {32000, 1024}}, indices({16384}, 32000, DType::I32));
  list.back().bench = true;
  list.back().forward = {.elements = 2 * 16384.0 * 1024};
  list.back().backward = {.elements = 16384.0 * 1024, .fixed_bytes = 4 * (32000.0 + 2 * 16384.0) * 1024};
  return list;
}

std::vector<OpCase> gather_op_cases() {
  std::vector<OpCase> list;
  const auto add_case = [&](const std::string& name, const Input& x, int dim, const Input& index) {
    OpCase made{.op = "gather", .name = name, .inputs = {x, index}};
    made.fused = [dim](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {gather(in[0], dim, in[1])};
    };
    made.composed = [dim](std::span<const Tensor> in) -> std::vector<Tensor> {
      return {composed::gather(in[0], dim, in[1])};
    };
    made.kernel = "gather";
    made.kernel_grad = "gather_grad";
    list.push_back(std::move(made));
  };
  add_case("one_element", {.shape = {1}}, 0, indices({1}, 1, DType::I32));
  add_case("empty", {.shape = {3, 5}}, 1, indices({3, 0}, 5, DType::I32));
  for (const std::int64_t width : {1, 3, 7, 17, 33}) {
    add_case(fmt::format("width_{}", width), {.shape = {5, width}}, -1, indices({5, 4}, width, DType::I32));
  }
  add_case("first", {.shape = {7, 5}}, 0, indices({3, 5}, 7, DType::I64));
  add_case("middle", {.shape = {3, 6, 5}}, 1, indices({3, 9, 5}, 6, DType::I64));
  add_case("repeats", {.shape = {3, 2}}, 1, indices({3, 50}, 2, DType::I32));
  add_case("wide_row", {.shape = {2, 100003}}, 1, indices({2, 7}, 100003, DType::I32));
  for (const Fill fill : {Fill::WithNan, Fill::WithInfinity, Fill::Large, Fill::Tiny}) {
    const char* name =
        fill == Fill::WithNan
            ? "nan"
            : (fill == Fill::WithInfinity ? "infinity" : (fill == Fill::Large ? "large" : "tiny"));
    add_case(name, {.shape = {5, 33}, .fill = fill}, -1, indices({5, 9}, 33, DType::I32));
  }
  add_case("transposed", {.shape = {5, 33}, .arrange = Arrange::Transposed}, -1,
           indices({5, 9}, 33, DType::I32, Arrange::Transposed));
  add_case("sliced", {.shape = {5, 33}, .arrange = Arrange::Sliced}, 0,
           indices({4, 33}, 5, DType::I32, Arrange::Sliced));
  add_case("broadcast", {.shape = {5, 33}, .arrange = Arrange::Broadcast}, 1,
           indices({5, 3}, 33, DType::I32));
  add_case("bench", {.shape = {4096, 4096}}, -1, indices({4096, 256}, 4096, DType::I32));
  list.back().bench = true;
  list.back().forward = {.elements = 2 * 4096.0 * 256, .fixed_bytes = 4 * 4096.0 * 256};
  return list;
}

}  // namespace

std::vector<OpCase> gather_cases() {
  std::vector<OpCase> list = embedding_cases();
  append(list, gather_op_cases());
  return list;
}

}  // namespace candela::cases
