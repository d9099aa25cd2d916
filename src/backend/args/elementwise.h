#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

enum class UnaryOp : std::uint8_t {
  /// alpha x + beta
  Affine,
  Exp,
  Log,
  Sqrt,
  Rsqrt,
  Reciprocal,
  Square,
  Abs,
  Tanh,
  Sigmoid,
  Relu,
  Silu,
  /// x Phi(x), by erf
  Gelu,
  /// the tanh approximation of GELU
  GeluTanh,
};

enum class BinaryOp : std::uint8_t {
  Add,
  Sub,
  Mul,
  Div,
  Maximum,
  Minimum,
  Equal,
  Greater,
  /// 1 or 0 in the dtype of the inputs
  GreaterEqual,
  /// a where b is not 0, else 0
  Where,
};

/// out = op(x); shapes equal, any strides.
struct UnaryArgs {
  UnaryOp op;
  TensorArg x, out;
  double alpha = 1, beta = 0;
};

/// dx = dy * op'(x); shapes equal, any strides.
struct UnaryGradArgs {
  UnaryOp op;
  TensorArg x, dy, dx;
  double alpha = 1;
};

/// out = op(a, b); a and b already carry out's shape, with stride 0 where they were broadcast.
struct BinaryArgs {
  BinaryOp op;
  TensorArg a, b, out;
};

/// out = silu(gate) * up (SwiGLU); shapes equal.
struct SwigluArgs {
  TensorArg gate, up, out;
};

struct SwigluGradArgs {
  TensorArg gate, up, dy, dgate, dup;
};

/// out = gelu(gate) * up (GeGLU); `gelu` is UnaryOp::Gelu or GeluTanh; shapes equal.
struct GegluArgs {
  UnaryOp gelu;
  TensorArg gate, up, out;
};

/// dgate = dy up gelu'(gate), dup = dy gelu(gate).
struct GegluGradArgs {
  UnaryOp gelu;
  TensorArg gate, up, dy, dgate, dup;
};

}  // namespace candela
