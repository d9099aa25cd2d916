#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// out [count, width] = weight[ids]; rows by strides.
struct EmbeddingParams {
  const void* weight;
  const void* ids;
  void* out;
  std::int64_t classes, count, width;
  std::int64_t weight_row, weight_column, id_step, out_row;
  Fault* fault;
};
cudaError_t launch_embedding(const EmbeddingParams& params, Type type, Type index, cudaStream_t stream);

/// dweight f32 [classes, width] = sum over n with ids[n] == class of dy[n], in order of n.
struct EmbeddingGradParams {
  const void* dy;
  const void* ids;
  float* dweight;
  std::int64_t classes, count, width;
  std::int64_t dy_row, dy_column, id_step, dweight_row, dweight_column;
};
cudaError_t launch_embedding_grad(const EmbeddingGradParams& params, Type type, Type index,
                                  cudaStream_t stream);

/// Lines along one dimension: x (or dx) of `length`, index and out (or dy) of `picks` elements; rows of out,
/// index, x.
struct GatherParams {
  /// out (dy), index, x (dx); length = picks
  RowParams<3> rows;
  std::int64_t length;
  Fault* fault;
};
cudaError_t launch_gather(const GatherParams& params, Type type, Type index, cudaStream_t stream);
/// dx f32: every element of a line takes the sum of what was picked from it, in order.
cudaError_t launch_gather_grad(const GatherParams& params, Type type, Type index, cudaStream_t stream);

}  // namespace candela::cuda
