#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// Rotates pairs (i, i + R/2) of the first R elements of each head: out_i = x_i cos - x_j sin, out_j = x_j
/// cos + x_i sin; the rest is copied. x, out [B, T, H, D], last stride 1; cos, sin f32 [P, R / 2], R <= D;
/// positions i32 [B, T] (stride 0 where shared), each in [0, P). `inverse` rotates back: the gradient. out
/// may be x: then the rotation is in place.
struct RopeArgs {
  TensorArg x, cos, sin, positions, out;
  bool inverse = false;
};

}  // namespace candela
