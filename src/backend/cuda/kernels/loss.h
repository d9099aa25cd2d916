#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// loss[n] = lse[n] - logits[n, targets[n]], 0 where the target is ignored; f32 [rows].
struct CrossEntropyParams {
  const void* logits;
  std::int64_t rows, classes, row_stride, column_stride;
  const void* targets;
  std::int64_t target_step;
  float* loss;
  std::int64_t loss_step;
  float* lse;
  std::int64_t lse_step;
  std::int64_t ignored;
  Fault* fault;
};
cudaError_t launch_cross_entropy(const CrossEntropyParams& params, Type type, Type index,
                                 cudaStream_t stream);

/// dlogits = (softmax(logits) - onehot(target)) dloss[n], 0 for ignored rows.
struct CrossEntropyGradParams {
  /// loss is not read
  CrossEntropyParams forward;
  const float* dloss;
  std::int64_t dloss_step;
  void* dlogits;
  std::int64_t dlogits_row, dlogits_column;
};
cudaError_t launch_cross_entropy_grad(const CrossEntropyGradParams& params, Type type, Type index,
                                      cudaStream_t stream);

/// Both at once over contiguous f32 logits [rows, classes]: the loss of each row, and the gradient of their
/// sum, rounded to `type`, over the logits' own memory: row n of it at the byte where row n of the logits
/// begins.
struct HeadLossParams {
  float* logits;
  std::int64_t rows, classes;
  const void* targets;
  std::int64_t target_step;
  /// f32 [rows]
  float* loss;
  std::int64_t ignored;
  bool gradient;
  /// the device has clusters of blocks (9.0)
  bool clusters;
  Fault* fault;
};
cudaError_t launch_head_loss(const HeadLossParams& params, Type type, Type index, cudaStream_t stream);

/// total[0] (+)= sum of values, by one block in a fixed order.
cudaError_t launch_sum_rows(const float* values, std::int64_t count, float* total, bool add,
                            cudaStream_t stream);

}  // namespace candela::cuda
