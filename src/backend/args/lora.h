#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

inline constexpr int kMaxLoraBranches = 8;

/// One linear layer with its adapter: y = x weight^T + bias + scale (lora_x A^T) B^T. weight [O, I], bias [O]
/// optional, b [O, r], y [N, O]. Its rows of the concatenated A are [first_row, first_row + r).
struct LoraBranch {
  TensorArg weight, bias, b, y;
  std::int64_t first_row;
  double scale;
};

/// Linear layers that share an input: x [N, I]; lora_x [N, I] is x, or where `separate` a tensor of its own
/// (x after dropout); a [R, I] the A matrices, concatenated by rows; xa [N, R] = lora_x a^T, kept for the
/// gradient.
struct LoraLinearArgs {
  TensorArg x, lora_x, a, xa;
  LoraBranch branches[kMaxLoraBranches];
  int branch_count;
  bool separate =
      false;  ///< lora_x may share memory with x and yet be another tensor, with a gradient of its own
};

/// Given dy of every branch ([N, O] each): dxa[:, rows of i] = scale_i dy_i b_i; dx = sum_i dy_i weight_i (+
/// dxa a unless forward.separate); dlora_x = dxa a; da = dxa^T lora_x; db_i = scale_i dy_i^T xa_i. da, db f32
/// or the dtype of a, b; absent outputs are skipped. dxa [N, R] is scratch.
struct LoraLinearGradArgs {
  LoraLinearArgs forward;
  TensorArg dy[kMaxLoraBranches];
  TensorArg db[kMaxLoraBranches];
  TensorArg dxa, dx, dlora_x, da;
};

}  // namespace candela
