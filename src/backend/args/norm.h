#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// h = x + residual (if present, written to `sum`), rstd = 1 / sqrt(mean(h^2) + eps), out = h rstd (weight +
/// weight_offset).
/// x, residual, sum, out [..., D]; weight [D]; rstd f32 [rows], optional.
struct RmsNormArgs {
  TensorArg x, residual, weight, out, sum, rstd;
  double eps;
  /// 1 where weights are stored as their difference from 1
  double weight_offset = 0;
};

/// With g = dy (weight + weight_offset), c = mean(g h) rstd^2: dx = rstd (g - h c) + dsum (if present);
/// dweight f32 [D] = sum over rows of dy h rstd (optional). eps is the forward's: in rows of few elements g -
/// h c nearly cancels, and needs rstd to more digits than f32 keeps.
struct RmsNormGradArgs {
  TensorArg x, weight, rstd, dy, dsum, dx, dweight;
  double eps;
  double weight_offset = 0;
};

/// out = (x - mean) rstd weight + bias. mean, rstd f32 [rows], optional; weight, bias [D], optional.
struct LayerNormArgs {
  TensorArg x, weight, bias, out, mean, rstd;
  double eps;
};

struct LayerNormGradArgs {
  TensorArg x, weight, mean, rstd, dy, dx, dweight, dbias;
};

}  // namespace candela
