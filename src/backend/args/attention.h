#pragma once

#include "backend/args/tensor_arg.h"

namespace candela {

/// out[b,t,h] = sum_j softmax_j(scale q[b,t,h] . k[b,j,h / (H / K)]) v[b,j,...] over the visible keys j.
/// q, out [B, T, H, D]; k, v [B, S, K, D], last stride 1. Query t of row b stands at position p = q_start[b]
/// + t (q_start i32 [B]; absent: S - T). Visible: j < S; causal: j <= p; window w > 0: j > p - w;
/// window_after a > 0: j < p + a. cu_seqlens
/// i32 [N + 1], optional, B = 1 and S = T: sequences [cu[n], cu[n+1]) packed along T that do not see each
/// other. A key that is not visible contributes nothing, be it NaN or infinite. A query that sees no key
/// gives zeros; one whose visible scores are all -inf gives NaN.
///
/// top, total f32 [B, H, T], optional and together: what the gradient needs of each row, a pair such that the
/// weights are exp(scale (q . k - top)) / total. The product of the largest score and the sum of exponentials
/// beside it do that at any magnitude; their one number, log(total) added to the largest score, would lose
/// log(total) beside a large one. A row without visible keys has total = 0.
struct AttentionArgs {
  TensorArg q, k, v, out, top, total, q_start, cu_seqlens;
  double scale;
  bool causal;
  std::int64_t window = 0;
  std::int64_t window_after = 0;
  /// f32 [H, 2 M + 1], optional, only where S = T without q_start: added to the score of query t and key j is
  /// [h, clamp(j - t, -M, M) + M].
  TensorArg distance_bias{};
};

/// Gradients dq, dk, dv (shapes and dtypes of q, k, v) of `forward` given dout; forward.out, forward.top and
/// forward.total are its results.
struct AttentionGradArgs {
  AttentionArgs forward;
  TensorArg dout, dq, dk, dv;
};

}  // namespace candela
