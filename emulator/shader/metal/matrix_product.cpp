#include "simdgroup_matrix.h"

namespace metal::detail {

void multiply_8x8(const float* a, const float* b, float* out) {
  for (int row = 0; row < 8; ++row) {
    float sums[8] = {};
    for (int k = 0; k < 8; ++k) {
      const float factor = a[row * 8 + k];
      for (int column = 0; column < 8; ++column) sums[column] += factor * b[k * 8 + column];
    }
    for (int column = 0; column < 8; ++column) out[row * 8 + column] = sums[column];
  }
}

}  // namespace metal::detail
