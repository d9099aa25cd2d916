#pragma once

#include "backend/args/tensor_arg.h"
#include "backend/metal/shaders/params.h"

namespace candela::metal {

/// Lines of the operands along `dim`, in all of operand 0's other dimensions.
struct Lines {
  shader::LineParams params{};
  std::size_t count = 1;

  template <int N>
  Lines(const TensorArg (&operands)[N], int dim) {
    static_assert(N <= 3);
    const TensorArg& first = operands[0];
    for (int d = 0; d < first.rank; ++d) {
      if (d == dim || first.shape[d] == 1) continue;
      params.outer_shape[params.outer_rank] = static_cast<std::uint32_t>(first.shape[d]);
      for (int n = 0; n < N; ++n) params.outer[n][params.outer_rank] = operands[n].strides[d];
      ++params.outer_rank;
      count *= static_cast<std::size_t>(first.shape[d]);
    }
    for (int n = 0; n < N; ++n) params.step[n] = operands[n].rank == 0 ? 1 : operands[n].strides[dim];
  }
};

}  // namespace candela::metal
