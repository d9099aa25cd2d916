#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

enum class Reduction { Sum, SumSquares, Max, Min };

/// out[kept] = scale times the reduction of x[kept, reduced]. Both loops run over strides of x; the kept ones
/// over those of out too.
struct ReduceParams {
  int kept_rank = 0, reduced_rank = 0;
  /// products of the sizes
  std::int64_t kept = 1, reduced = 1;
  std::int64_t kept_shape[kMaxDims] = {}, kept_x[kMaxDims] = {}, kept_out[kMaxDims] = {};
  std::int64_t reduced_shape[kMaxDims] = {}, reduced_x[kMaxDims] = {};
  const void* x = nullptr;
  void* out = nullptr;
  /// f32 [reduce_parts, kept], where there is more than one part
  float* partial = nullptr;
  float scale = 1;
  Reduction op = Reduction::Sum;
};
/// Into how many parts the reduced elements are cut, by the sizes alone.
std::int64_t reduce_parts(const ReduceParams& params);
cudaError_t launch_reduce(const ReduceParams& params, Type type, cudaStream_t stream);

/// Rows: x, out (one element per row, i64): the position of the largest, NaN before all, the first of equals.
cudaError_t launch_argmax(const RowParams<2>& rows, Type type, cudaStream_t stream);

}  // namespace candela::cuda
