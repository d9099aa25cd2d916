#pragma once

#include <candela/core/tensor.h>
#include <candela/ops/weight.h>

namespace candela {

inline constexpr std::int64_t kIgnoreIndex = -100;

/// Per-row cross entropy f32 [N] of logits [N, V], f32, bf16 or f16 (f64 as reference: then the result is f64
/// too), and targets (i32 or i64) [N]; 0 for rows whose target is `ignore_index`. Gradient for logits. Throws
/// InvalidArgument for any other target outside [0, V), and for shapes, dtypes or devices that do not fit.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t ignore_index = kIgnoreIndex);

/// An adapter's share of the logits: low [N, R] times b [V, R] transposed, added to x weight^T. Any floating
/// dtypes; undefined: none.
struct LowRankLogits {
  Tensor low, b;
};

/// Sum over the rows of cross_entropy(x weight^T + low b^T, targets), f32 [1], in chunks of rows so that the
/// [N, V] logits never exist at once. x [N, D] and weight [V, D] of one dtype, targets [N]; dtypes and errors
/// as cross_entropy. Gradients for x, weight, low and b, computed in the forward pass: none is computed that
/// nobody asks for.
Tensor linear_cross_entropy(const Tensor& x, const Weight& weight, const Tensor& targets,
                            std::int64_t ignore_index = kIgnoreIndex, const LowRankLogits& extra = {});

}  // namespace candela
