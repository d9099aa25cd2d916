#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// out = x, converted to out's dtype; shapes equal, any strides. Into integers: fractions are cut off, what
/// is beyond the range becomes its end, NaN becomes 0.
struct CopyArgs {
  TensorArg x, out;
};

/// Every element of out = value.
struct FillArgs {
  TensorArg out;
  double value;
};

}  // namespace candela
