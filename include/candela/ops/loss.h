#pragma once

#include <candela/core/tensor.h>

namespace candela {

inline constexpr std::int64_t kIgnoreIndex = -100;

/// Per-row cross entropy f32 [N] of logits [N, V] and targets (i32 or i64) [N]; 0 for rows whose target is
/// `ignore_index`. Gradient for logits.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t ignore_index = kIgnoreIndex);

/// Sum over the rows of cross_entropy(x weight^T, targets), f32 [1], in chunks of rows so that the [N, V]
/// logits never exist at once. x [N, D], weight [V, D], targets [N]. Gradients for x and weight, computed in
/// the forward pass.
Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                            std::int64_t ignore_index = kIgnoreIndex);

}  // namespace candela
