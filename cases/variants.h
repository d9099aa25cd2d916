#pragma once

#include "cases/op_case.h"

/// What every op is tried with: the shapes, contents and layouts that have broken kernels before.
namespace candela::cases {

struct Variant {
  std::string name;
  Input input;
};

/// One element, empty, odd widths, a very wide row; large, tiny, NaN, infinity; every arrangement. Rank 2 and
/// 3, the last dimension is the row.
const std::vector<Variant>& matrix_variants();

/// The same variant with values from [low, high) where it would draw normal ones: for ops that need positive
/// or bounded inputs.
Input within(Input input, double low, double high);

/// A case of one input: `call` is op and reference alike (plain ops, whose f64 path shares nothing with the
/// fast ones).
OpCase unary_case(std::string op, const Variant& variant, Call fused, Call composed);

/// Moves the cases of `from` to the end of `to`.
void append(std::vector<OpCase>& to, std::vector<OpCase> from);

}  // namespace candela::cases
