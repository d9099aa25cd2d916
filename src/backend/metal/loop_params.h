#pragma once

#include "backend/layout.h"
#include "backend/metal/shaders/params.h"

namespace candela::metal {

/// The strided loop over N operands as the shaders take it.
template <int N>
shader::LoopParams loop_params(const Loops<N>& loops) {
  static_assert(N <= shader::kMaxLoopOperands);
  shader::LoopParams params{};
  params.rank = static_cast<std::uint32_t>(loops.rank);
  params.inner = static_cast<std::uint32_t>(loops.inner());
  for (int d = 0; d < loops.rank - 1; ++d) params.outer_shape[d] = static_cast<std::uint32_t>(loops.shape[d]);
  for (int n = 0; n < N; ++n) {
    for (int d = 0; d < loops.rank; ++d) params.strides[n][d] = loops.strides[n][d];
  }
  return params;
}

}  // namespace candela::metal
