#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// out = softmax(x) or log softmax(x) along `dim`. A row that is all -inf gives NaN, as exp(-inf) / 0 does.
struct SoftmaxArgs {
  TensorArg x, out;
  int dim;
  bool log = false;
};

/// y = forward output. softmax: dx = y (dy - sum(dy y)); log softmax: dx = dy - exp(y) sum(dy).
struct SoftmaxGradArgs {
  TensorArg y, dy, dx;
  int dim;
  bool log = false;
};

}  // namespace candela
