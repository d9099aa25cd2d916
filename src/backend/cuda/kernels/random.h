#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// out, element by element (args/random.h).
struct UniformParams {
  std::uint64_t seed, offset;
  double low, high, least, most;
};
cudaError_t launch_uniform(const LoopParams<1>& loops, Type type, const UniformParams& params,
                           cudaStream_t stream);
struct NormalParams {
  std::uint64_t seed, offset;
  double mean, deviation;
};
cudaError_t launch_normal(const LoopParams<1>& loops, Type type, const NormalParams& params,
                          cudaStream_t stream);
/// Operands out, x: what is kept times `scale`, where the number drawn is at least p.
struct DropoutParams {
  std::uint64_t seed, offset;
  /// added to offset; null: nothing
  const std::int64_t* base;
  double p;
  float scale;
};
cudaError_t launch_dropout(const LoopParams<2>& loops, Type type, const DropoutParams& params,
                           cudaStream_t stream);

}  // namespace candela::cuda
