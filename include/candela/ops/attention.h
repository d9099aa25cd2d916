#pragma once

#include <candela/core/tensor.h>
#include <candela/ops/rope.h>

namespace candela {

struct AttentionOptions {
  /// factor on q k^T; 0 means 1 / sqrt(D)
  double scale = 0;
  /// a query sees keys at its own position and before
  bool causal = true;
  /// sliding window: a query at p sees keys j > p - window; 0 means no limit
  std::int64_t window = 0;
  /// and j < p + window_after; 0 means no limit
  std::int64_t window_after = 0;
  /// i32 [B]: position of the first query of each row among its keys; undefined: S - T
  Tensor q_start = {};
  /// i32 [N + 1]: sequences packed along T (B = 1, S = T), none sees another; 0 first, T last, none below
  /// the one before it
  Tensor cu_seqlens = {};
  /// f32 [H, 2 M + 1]: [h, clamp(j - t, -M, M) + M] is added to the scaled score of query t and key j, where
  /// S = T and q_start is undefined. A constant to autograd.
  Tensor distance_bias = {};
};

/// Scaled dot-product attention (Vaswani et al., 2017) with grouped queries (Ainslie et al., 2023): q [B, T,
/// H, D], k and v [B, S, K, D], H a multiple of K -> [B, T, H, D]; one dtype: f32, bf16 or f16. Memory is
/// linear in T and S, forward and backward: no T x S matrix exists (Dao, 2023); only f64, as reference,
/// builds one. Gradients for q, k, v. InvalidArgument if shapes, dtypes or devices do not fit, an option is
/// out of range, or cu_seqlens is not as told (where the host can read it).
///
/// A key that a query does not see contributes nothing to it, nor to its gradients, be it NaN or infinite. A
/// query that sees no key gives zeros. Among the keys it sees NaN and infinity count as in softmax: scores
/// that are all -inf, or of which one is NaN or +inf, give NaN.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options = {});

/// attention(rope(q), rope(k), v): as one op it keeps nothing but the rotated q and k, v and its result, and
/// sends q, k and v that lie side by side one packed gradient. It takes q and k over: they are rotated where
/// they lie, so that nothing else may read their memory afterwards. (An op that kept one of them for its
/// gradient says so in backward().) Errors as attention and rope.
Tensor rotary_attention(const Tensor& q, const Tensor& k, const Tensor& v, const RopeTable& table,
                        const Tensor& positions, const AttentionOptions& options = {});

}  // namespace candela
