#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// out = alpha a b + beta out, with a [..., M, K], b [..., K, N], out [..., M, N]; the leading dimensions are
/// equal (stride 0 where broadcast). Any strides: a transposed operand has its last two strides swapped. beta
/// = 0 does not read out. `bias` [N], optional, is added to every row. a and b share a dtype; out has that
/// dtype, or f32.
struct MatmulArgs {
  TensorArg a, b, out, bias;
  double alpha = 1, beta = 0;
};

}  // namespace candela
