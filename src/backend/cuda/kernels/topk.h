#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// The k largest of each row, falling, the lower index first among equals; NaN counts as largest. Rows: x,
/// values, indices (i32); length is x's.
cudaError_t launch_topk(const RowParams<3>& rows, std::int64_t k, Type type, cudaStream_t stream);

}  // namespace candela::cuda
