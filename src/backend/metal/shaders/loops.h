#ifndef CANDELA_METAL_SHADERS_LOOPS_H
#define CANDELA_METAL_SHADERS_LOOPS_H

#include "common.h"

/// Offset of operand `n` at element `column` of innermost loop `row`.
inline long loop_offset(constant candela::shader::LoopParams& loop, uint n, uint row, uint column) {
  long offset = static_cast<long>(column) * loop.strides[n][loop.rank - 1];
  for (int d = static_cast<int>(loop.rank) - 2; d >= 0; --d) {
    uint size = loop.outer_shape[d];
    offset += static_cast<long>(row % size) * loop.strides[n][d];
    row /= size;
  }
  return offset;
}

#endif
