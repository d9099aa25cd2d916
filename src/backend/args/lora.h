#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

inline constexpr int kMaxLoraBranches = 8;

/// One adapter of a group: adds scale (lora_x A_i^T) b^T to columns [first_output, first_output + outputs) of
/// y. A_i [rank, I] are rows [first_row, first_row + rank) of the concatenated A; b [outputs, rank].
struct LoraBranch {
  TensorArg b;
  std::int64_t first_output, outputs;
  std::int64_t first_row, rank;
  double scale;
};

/// A group of linear layers that share an input, with their adapters: y = x weight^T + bias, plus every
/// branch. x [N, I]; weight [O, I] and y [N, O], O the sum over the layers; bias [O], optional. y is
/// row-major. Branches stand in the order of their outputs and do not overlap; outputs without a branch are
/// the plain layer's. branch_count may be 0: then a and xa are absent.
/// lora_x [N, I] is what adapters see: x, or where `separate` a tensor of its own (x after dropout).
/// a [R, I] the A matrices, concatenated by rows; xa [N, R] = lora_x a^T, kept for the gradient.
struct LoraLinearArgs {
  TensorArg x, lora_x, weight, bias, y, a, xa;
  LoraBranch branches[kMaxLoraBranches];
  int branch_count = 0;
  /// lora_x may share memory with x and yet be another tensor, with a gradient of its own.
  bool separate = false;
};

/// Gradients of `forward` (whose y is absent) given dy [N, O], packed as y. With dy_i, xa_i and dxa_i the
/// columns of branch i: dxa_i = scale_i dy_i b_i; dx = dy weight (+ dxa a unless forward.separate);
/// dlora_x = dxa a; da = dxa^T lora_x; db_i = scale_i dy_i^T xa_i. da and db are f32 or of the dtype of a and
/// b. Absent outputs are skipped. dxa [N, R] is workspace that the op provides.
struct LoraLinearGradArgs {
  LoraLinearArgs forward;
  TensorArg dy;
  TensorArg db[kMaxLoraBranches];
  TensorArg dxa, dx, dlora_x, da;
};

}  // namespace candela
