#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// out[i] = low + (high - low) u_i, u_i from philox(seed) at position offset + i (row-major index), and kept
/// within [least, most]: the ends of [low, high) among the values that out's dtype holds, so that rounding
/// leads out of it on neither side.
struct UniformArgs {
  TensorArg out;
  std::uint64_t seed, offset;
  double low, high;
  double least, most;
};

/// Normal by Box-Muller; element i takes the positions offset + 2 i and offset + 2 i + 1.
struct NormalArgs {
  TensorArg out;
  std::uint64_t seed, offset;
  double mean, stddev;
};

/// out[i] = x[i] / (1 - p) where u_i >= p, else 0. The gradient is the same op on dy with the same seed,
/// offset and base. base: i64 [1], added to offset when the kernel runs; absent: 0.
struct DropoutArgs {
  TensorArg x, out;
  std::uint64_t seed, offset;
  double p;
  TensorArg base = {};
};

}  // namespace candela
