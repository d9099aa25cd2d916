#ifndef CANDELA_METAL_SHADERS_COMMON_H
#define CANDELA_METAL_SHADERS_COMMON_H

#include <metal_stdlib>

#include "params.h"

// A fused multiply-add rounds once where two operations round twice: differences that ought to cancel would
// not. Safe math alone does not forbid it.
#pragma STDC FP_CONTRACT OFF

using namespace metal;

/// bfloat16 in memory. The language's own type needs Metal 3.1; this one works on every system.
struct bf16 {
  ushort bits;
};

inline float to_float(float x) {
  return x;
}
inline float to_float(half x) {
  return static_cast<float>(x);
}
inline float to_float(bf16 x) {
  return as_type<float>(static_cast<uint>(x.bits) << 16);
}

/// Rounds to nearest, ties to even; NaN stays NaN.
template <class T>
inline T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
template <>
inline half from_float<half>(float x) {
  return static_cast<half>(x);
}
template <>
inline bf16 from_float<bf16>(float x) {
  uint word = as_type<uint>(x);
  bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
  uint rounded = word + 0x7fffu + ((word >> 16) & 1u);
  bf16 result;
  result.bits = static_cast<ushort>(is_nan ? (word >> 16) | 0x40u : rounded >> 16);
  return result;
}

/// Four neighbouring elements by one access; aligned to its size.
inline float4 load_four(device const float* x) {
  return *reinterpret_cast<device const float4*>(x);
}
inline float4 load_four(device const half* x) {
  half4 values = *reinterpret_cast<device const half4*>(x);
  float4 result;
  for (uint i = 0; i < 4; ++i) result[i] = static_cast<float>(values[i]);
  return result;
}
inline float4 load_four(device const bf16* x) {
  ushort4 bits = *reinterpret_cast<device const ushort4*>(x);
  float4 result;
  for (uint i = 0; i < 4; ++i) result[i] = as_type<float>(static_cast<uint>(bits[i]) << 16);
  return result;
}

/// A sum that carries the rounding error of its additions along (Knuth's exact sum of two numbers): a long
/// one keeps its digits, also where much cancels or every addition rounds the same way.
struct LongSum {
  float value, rest;
};
inline LongSum plus(LongSum a, LongSum b) {
  float sum = a.value + b.value;
  float second = sum - a.value;
  float error = (a.value - (sum - second)) + (b.value - second);
  return {sum, a.rest + b.rest + error};
}
inline LongSum plus(LongSum a, float x) {
  return plus(a, LongSum{x, 0.0f});
}
/// Infinity and NaN leave no meaningful rest.
inline float total_of(LongSum sum) {
  return isfinite(sum.value) ? sum.value + sum.rest : sum.value;
}

/// What the threads of a group need to combine their values: one slot per simdgroup.
constant constexpr uint kMaxSimdgroups = 32;

/// The sum over the threadgroup, in a fixed order. Every thread must call it.
inline float group_sum(float value, threadgroup float* slots, uint thread_index, uint threads) {
  value = simd_sum(value);
  if (thread_index % 32 == 0) slots[thread_index / 32] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float total = 0.0f;
  for (uint i = 0; i < (threads + 31) / 32; ++i) total += slots[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return total;
}

/// The largest over the threadgroup; NaN is passed over.
inline float group_max(float value, threadgroup float* slots, uint thread_index, uint threads) {
  value = simd_max(value);
  if (thread_index % 32 == 0) slots[thread_index / 32] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float largest = slots[0];
  for (uint i = 1; i < (threads + 31) / 32; ++i) largest = fmax(largest, slots[i]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return largest;
}

#endif
