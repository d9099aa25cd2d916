#ifndef CANDELA_METAL_SHADERS_LINES_H
#define CANDELA_METAL_SHADERS_LINES_H

#include "common.h"

/// Offset of operand `n` where line `line` starts.
inline long line_offset(constant candela::shader::LineParams& p, uint n, uint line) {
  long offset = 0;
  for (int d = static_cast<int>(p.outer_rank) - 1; d >= 0; --d) {
    uint size = p.outer_shape[d];
    offset += static_cast<long>(line % size) * p.outer[n][d];
    line /= size;
  }
  return offset;
}

#endif
