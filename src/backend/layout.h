#pragma once

#include <cstdint>

#include "backend/args/tensor_arg.h"

/// Stride logic, written once for all backends.
namespace candela {

/// The loops over N operands of one shape, reduced to as few dimensions as their strides allow: size-1
/// dimensions vanish, neighbours that every operand steps through evenly merge.
template <int N>
struct Loops {
  int rank = 0;
  std::int64_t shape[kMaxRank] = {};
  std::int64_t strides[N][kMaxRank] = {};

  /// `shape` is taken from operand 0; all have the same.
  explicit Loops(const TensorArg (&operands)[N]) {
    for (int d = 0; d < operands[0].rank; ++d) {
      if (operands[0].shape[d] == 1) continue;
      bool merge = rank > 0;
      for (int n = 0; n < N && merge; ++n) {
        merge = strides[n][rank - 1] == operands[n].strides[d] * operands[0].shape[d];
      }
      if (merge) {
        shape[rank - 1] *= operands[0].shape[d];
      } else {
        shape[rank++] = operands[0].shape[d];
      }
      for (int n = 0; n < N; ++n) strides[n][rank - 1] = operands[n].strides[d];
    }
    if (rank == 0) {
      rank = 1;
      shape[0] = operands[0].rank == 0 ? 1 : operands[0].numel();
      for (int n = 0; n < N; ++n) strides[n][0] = 1;
    }
  }

  /// Length of the innermost loop.
  std::int64_t inner() const { return shape[rank - 1]; }
  /// Number of innermost loops.
  std::int64_t outer() const {
    std::int64_t count = 1;
    for (int d = 0; d < rank - 1; ++d) count *= shape[d];
    return count;
  }
  /// Element offsets of each operand at the start of innermost loop `index`.
  void offsets(std::int64_t index, std::int64_t (&out)[N]) const {
    for (int n = 0; n < N; ++n) out[n] = 0;
    for (int d = rank - 2; d >= 0; --d) {
      const std::int64_t i = index % shape[d];
      index /= shape[d];
      for (int n = 0; n < N; ++n) out[n] += i * strides[n][d];
    }
  }
};

}  // namespace candela
