#ifndef CANDELA_METAL_SHADERS_MATMUL_BATCH_H
#define CANDELA_METAL_SHADERS_MATMUL_BATCH_H

#include "common.h"

/// Where the operands of one product of a batch start.
struct BatchOffsets {
  long a, b, out;
};

inline BatchOffsets batch_offsets(constant candela::shader::MatmulParams& p, uint batch) {
  BatchOffsets at = {0, 0, 0};
  for (int d = static_cast<int>(p.batch_rank) - 1; d >= 0; --d) {
    uint size = p.batch_shape[d];
    long index = static_cast<long>(batch % size);
    at.a += index * p.a_batch[d];
    at.b += index * p.b_batch[d];
    at.out += index * p.out_batch[d];
    batch /= size;
  }
  return at;
}

/// out[r, c] = alpha sum + beta out[r, c] + bias[c].
template <class TA, class TO>
inline void write_result(device TO* out, device const TA* bias, constant candela::shader::MatmulParams& p,
                         uint r, uint c, float sum) {
  long at = static_cast<long>(r) * p.out_row + static_cast<long>(c) * p.out_column;
  float value = p.alpha * sum;
  if (p.beta != 0.0f) value += p.beta * to_float(out[at]);
  if (p.has_bias != 0) value += to_float(bias[static_cast<long>(c) * p.bias_step]);
  out[at] = from_float<TO>(value);
}

#endif
