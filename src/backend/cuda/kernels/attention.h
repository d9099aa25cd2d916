#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// One of q, out, dout, dq [B, T, H, D] or k, v, dk, dv [B, S, K, D]: unit last stride.
struct HeadsParams {
  void* data = nullptr;
  std::int64_t strides[3] = {};
};

/// args/attention.h: visible keys, statistics. top, total f32 [B, H, T] contiguous or null.
struct AttentionParams {
  HeadsParams q, k, v, out;
  std::int64_t batch, queries, keys, heads, key_heads, size;
  float* top;
  float* total;
  /// [B] or null
  const std::int32_t* q_start;
  std::int64_t q_start_step;
  /// [sequences + 1] or null
  const std::int32_t* cu_seqlens;
  std::int64_t cu_seqlens_step, sequences;
  float scale;
  bool causal;
  std::int64_t window, window_after;
  /// f32 [H, 2 reach + 1] or null: added to the scaled score by j - t
  const float* distance_bias;
  std::int64_t bias_head, bias_step, reach;
};
/// Largest head that the kernels take.
inline constexpr std::int64_t kMaxHeadSize = 384;
cudaError_t launch_attention(const AttentionParams& params, Type type, cudaStream_t stream);

struct AttentionGradParams {
  AttentionParams forward;
  HeadsParams dout, dq, dk, dv;
  /// workspace f32 [B, H, T]: sum over d of dout out
  float* delta;
};
/// cuDNN keeps one statistic per row, the logarithm of the sum of exponentials. It is kept as `top` beside a
/// total of -1, exactly as it is: divided by the scale it would lose the digits that large scores need.
cudaError_t launch_keep_statistics(const float* stats, float* top, float* total, std::int64_t rows,
                                   cudaStream_t stream);
cudaError_t launch_join_statistics(const float* top, const float* total, float* stats, std::int64_t rows,
                                   float scale, cudaStream_t stream);

cudaError_t launch_attention_grad(const AttentionGradParams& params, Type type, cudaStream_t stream);

/// The same on tensor cores (Dao, "FlashAttention-2", 2023): bf16, heads of up to 128 elements in groups of
/// 8, rows of 16-byte alignment, a positive scale, no distance bias. The gradient has no atomics: keys and
/// queries are walked over by a kernel each.
inline constexpr std::int64_t kMaxFlashHead = 128;
cudaError_t launch_flash(const AttentionParams& params, cudaStream_t stream);
cudaError_t launch_flash_grad(const AttentionGradParams& params, cudaStream_t stream);

}  // namespace candela::cuda
