#ifndef CANDELA_METAL_SHADERS_FAULT_H
#define CANDELA_METAL_SHADERS_FAULT_H

#include "common.h"

/// Reports `value`, which is outside of [0, bound). `fault` is the FaultSlot of the command buffer, by words;
/// the first report is kept.
inline void report(device atomic_uint* fault, uint code, long value, long bound) {
  if (atomic_fetch_or_explicit(fault, 1u, memory_order_relaxed) != 0u) return;
  ulong value_bits = static_cast<ulong>(value);
  ulong bound_bits = static_cast<ulong>(bound);
  atomic_store_explicit(fault + 1, code, memory_order_relaxed);
  atomic_store_explicit(fault + 2, static_cast<uint>(value_bits), memory_order_relaxed);
  atomic_store_explicit(fault + 3, static_cast<uint>(value_bits >> 32), memory_order_relaxed);
  atomic_store_explicit(fault + 4, static_cast<uint>(bound_bits), memory_order_relaxed);
  atomic_store_explicit(fault + 5, static_cast<uint>(bound_bits >> 32), memory_order_relaxed);
}

#endif
