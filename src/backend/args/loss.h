#pragma once

#include <algorithm>

#include "backend/args/tensor_arg.h"

namespace candela {

/// loss f32 [N] = lse(logits[n]) - logits[n, targets[n]], 0 where targets[n] == ignore_index; lse f32 [N].
/// logits [N, V]; targets i32 or i64 [N].
struct CrossEntropyArgs {
  TensorArg logits, targets, loss, lse;
  std::int64_t ignore_index;
};

/// dlogits = (softmax(logits) - onehot(target)) dloss[n], 0 for ignored rows. dloss f32 [N].
struct CrossEntropyGradArgs {
  TensorArg logits, targets, lse, dloss, dlogits;
  std::int64_t ignore_index;
};

/// Rows of logits that exist at once: 16 MiB of f32, but at least 128 rows so that the weight is not read too
/// often, and at most 1024.
inline std::int64_t cross_entropy_chunk_rows(std::int64_t rows, std::int64_t classes) {
  const std::int64_t most =
      std::clamp<std::int64_t>((std::int64_t{1} << 22U) / std::max<std::int64_t>(classes, 1), 128, 1024);
  return std::min(std::max<std::int64_t>(rows, 1), most);
}

/// Sum over rows of the cross entropy of logits = x weight^T (+ low b^T, an adapter's), in chunks of rows:
/// logits never exist as a whole. x [N, D], weight [V, D], targets [N]; loss f32 [1] the sum over rows that
/// are not ignored. low [N, R] and b [V, R], optional and together, of any floating dtype. dx (x's dtype),
/// dweight (f32), dlow and db (of the dtypes of low and b), each optional: gradients of the sum, computed on
/// the way.
struct LinearCrossEntropyArgs {
  TensorArg x, weight, targets, loss, dx, dweight;
  std::int64_t ignore_index;
  TensorArg low{}, b{}, dlow{}, db{};

  bool any_gradient() const { return dx.present() || dweight.present() || dlow.present() || db.present(); }
};

}  // namespace candela
