#ifndef CANDELA_METAL_SHADERS_ORDER_H
#define CANDELA_METAL_SHADERS_ORDER_H

#include "common.h"

/// A number that orders as the floats do; NaN above all, the two zeros equal. Subnormals count as zero on a
/// GPU that flushes them, for every element alike.
inline uint order_key(float x) {
  if (isnan(x)) return 0xffffffffu;
  uint bits = as_type<uint>(x == 0.0f ? 0.0f : x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

#endif
