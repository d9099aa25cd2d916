#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// Rows: x, out: out = softmax(x) or its logarithm.
cudaError_t launch_softmax(const RowParams<2>& rows, Type type, bool log, cudaStream_t stream);
/// Rows: y, dy, dx. dx = y (dy - sum(dy y)), or for the logarithm dy - exp(y) sum(dy).
cudaError_t launch_softmax_grad(const RowParams<3>& rows, Type type, bool log, cudaStream_t stream);

}  // namespace candela::cuda
