#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

enum class ReduceOp : std::uint8_t { Sum, SumSquares, Max, Min };

/// out has x's rank, with size 1 in the reduced dimensions: `scale` times the result, rounded to out's dtype
/// once. Accumulates in f32 (f64 for f64).
struct ReduceArgs {
  ReduceOp op;
  TensorArg x, out;
  double scale = 1;
};

/// out i64 [..., 1, ...]: position of the largest element along `dim`, the first of equals; NaN counts as
/// largest.
struct ArgmaxArgs {
  TensorArg x, out;
  int dim;
};

}  // namespace candela
