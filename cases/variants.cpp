#include "cases/variants.h"

#include <iterator>

namespace candela::cases {
namespace {

std::vector<Variant> make_variants() {
  std::vector<Variant> variants = {
      {"one_element", {.shape = {1}}},
      {"empty", {.shape = {0, 5}}},
      {"wide_row", {.shape = {2, 100003}}},
      {"rank_3", {.shape = {3, 5, 40}}},
      {"large", {.shape = {6, 33}, .fill = Fill::Large}},
      {"tiny", {.shape = {6, 33}, .fill = Fill::Tiny}},
      {"nan", {.shape = {6, 65}, .fill = Fill::WithNan}},
      {"infinity", {.shape = {6, 65}, .fill = Fill::WithInfinity}},
      {"masked_rows", {.shape = {7, 33}, .fill = Fill::MaskedRows}},
      {"transposed", {.shape = {3, 17, 9}, .arrange = Arrange::Transposed}},
      {"sliced", {.shape = {4, 5, 35}, .arrange = Arrange::Sliced}},
      {"strided", {.shape = {4, 35}, .arrange = Arrange::Strided}},
      {"broadcast", {.shape = {5, 33}, .arrange = Arrange::Broadcast}},
      {"empty_transposed", {.shape = {0, 2, 3}, .arrange = Arrange::Transposed}},
      {"empty_strided", {.shape = {0, 2, 5}, .arrange = Arrange::Strided}},
      {"empty_middle", {.shape = {3, 0, 5}, .arrange = Arrange::Sliced}},
  };
  for (const std::int64_t width : {1, 3, 7, 17, 33, 65, 127, 130}) {
    variants.push_back({"width_" + std::to_string(width), {.shape = {5, width}}});
  }
  return variants;
}

}  // namespace

const std::vector<Variant>& matrix_variants() {
  static const std::vector<Variant> variants = make_variants();
  return variants;
}

Input within(Input input, double low, double high) {
  if (input.fill == Fill::Normal) {
    input.fill = Fill::Uniform;
    input.low = low;
    input.high = high;
  }
  return input;
}

OpCase unary_case(std::string op, const Variant& variant, Call fused, Call composed) {
  OpCase result;
  result.op = std::move(op);
  result.name = variant.name;
  result.inputs = {variant.input};
  result.fused = std::move(fused);
  result.composed = std::move(composed);
  return result;
}

void append(std::vector<OpCase>& to, std::vector<OpCase> from) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
}

}  // namespace candela::cases
