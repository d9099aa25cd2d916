#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// Operands out, x: out = x, converted.
cudaError_t launch_copy(const LoopParams<2>& loops, Type out, Type x, cudaStream_t stream);
/// Every element = value.
cudaError_t launch_fill(const LoopParams<1>& loops, Type type, double value, cudaStream_t stream);

}  // namespace candela::cuda
