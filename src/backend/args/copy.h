#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// out = x, converted to out's dtype; shapes equal, any strides. Floats become integers by truncation.
struct CopyArgs {
  TensorArg x, out;
};

/// Every element of out = value.
struct FillArgs {
  TensorArg out;
  double value;
};

}  // namespace candela
