#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// out [N, D] = weight[ids]; weight [V, D], ids i32 or i64 [N], each in [0, V): the kernel throws
/// InvalidArgument for others.
struct EmbeddingArgs {
  TensorArg weight, ids, out;
};

/// dweight f32 (f64 for dy f64) [V, D], zeroed by the kernel, then dweight[ids[n]] += dy[n] in order of n.
struct EmbeddingGradArgs {
  TensorArg dy, ids, dweight;
};

/// out[..., i, ...] = x[..., index[..., i, ...], ...] along `dim`; index i32 or i64 of out's shape.
struct GatherArgs {
  TensorArg x, index, out;
  int dim;
};

/// dx f32 (f64 for dy f64) of x's shape, zeroed by the kernel, then dx[..., index[...], ...] += dy.
struct GatherGradArgs {
  TensorArg dy, index, dx;
  int dim;
};

}  // namespace candela
