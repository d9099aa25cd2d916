#ifndef CANDELA_METAL_SHADERS_VISIBLE_H
#define CANDELA_METAL_SHADERS_VISIBLE_H

#include "fault.h"

// Which keys a query sees, and which queries a key (args/attention.h).

struct Interval {
  int begin, end;
};

inline int clamp_to(long x, int bound) {
  return x < 0 ? 0 : (x > static_cast<long>(bound) ? bound : static_cast<int>(x));
}

inline long smaller(long a, long b) {
  return a < b ? a : b;
}
inline long larger(long a, long b) {
  return a > b ? a : b;
}

/// The packed sequence that token t lies in.
inline Interval sequence_of(constant candela::shader::AttentionParams& p, device const int* cu_seqlens,
                            int t) {
  uint low = 0;
  uint high = p.sequences;  // the last bound that is not above t
  while (high - low > 1) {
    uint middle = (low + high) / 2;
    if (cu_seqlens[static_cast<long>(middle) * p.cu_seqlens_step] <= t) {
      low = middle;
    } else {
      high = middle;
    }
  }
  int tokens = static_cast<int>(p.keys);
  return {clamp_to(cu_seqlens[static_cast<long>(low) * p.cu_seqlens_step], tokens),
          clamp_to(cu_seqlens[static_cast<long>(low + 1) * p.cu_seqlens_step], tokens)};
}

/// Position of query 0 of row b.
inline long start_of(constant candela::shader::AttentionParams& p, device const int* q_start, uint b) {
  if (p.has_q_start != 0) return q_start[static_cast<long>(b) * p.q_start_step];
  return static_cast<long>(p.keys) - static_cast<long>(p.queries);
}

/// Keys that query t of row b sees.
inline Interval keys_of(constant candela::shader::AttentionParams& p, device const int* q_start,
                        device const int* cu_seqlens, uint b, int t) {
  Interval whole = {0, static_cast<int>(p.keys)};
  if (p.sequences > 0) whole = sequence_of(p, cu_seqlens, t);
  long position = start_of(p, q_start, b) + t;
  long begin = whole.begin;
  long end = whole.end;
  if (p.causal != 0) end = smaller(end, position + 1);
  if (p.window_after > 0) end = smaller(end, position + p.window_after);
  if (p.window > 0) begin = larger(begin, position - p.window + 1);
  return {clamp_to(begin, whole.end), clamp_to(end, whole.end)};
}

/// Queries of row b that see key j.
inline Interval queries_of(constant candela::shader::AttentionParams& p, device const int* q_start,
                           device const int* cu_seqlens, uint b, int j) {
  Interval whole = {0, static_cast<int>(p.queries)};
  if (p.sequences > 0) whole = sequence_of(p, cu_seqlens, j);
  long place = static_cast<long>(j) - start_of(p, q_start, b);
  long begin = whole.begin;
  long end = whole.end;
  if (p.causal != 0) begin = larger(begin, place);
  if (p.window_after > 0) begin = larger(begin, place - p.window_after + 1);
  if (p.window > 0) end = smaller(end, place + p.window);
  return {clamp_to(begin, whole.end), clamp_to(end, whole.end)};
}

/// cu_seqlens goes from 0 to T without decreasing; checked by one threadgroup.
inline void check_bounds(constant candela::shader::AttentionParams& p, device const int* cu_seqlens,
                         device atomic_uint* fault, uint thread_index, uint threads) {
  for (uint n = thread_index; n <= p.sequences && p.sequences > 0; n += threads) {
    int bound = cu_seqlens[static_cast<long>(n) * p.cu_seqlens_step];
    int before = n == 0 ? 0 : cu_seqlens[static_cast<long>(n - 1) * p.cu_seqlens_step];
    if (n == 0 && bound != 0) report(fault, candela::shader::kFirstBound, bound, 0);
    if (n > 0 && bound < before) report(fault, candela::shader::kBoundOrder, bound, before);
    if (n == p.sequences && bound != static_cast<int>(p.queries))
      report(fault, candela::shader::kLastBound, bound, p.queries);
  }
}

/// What is added to the product of query t and key j, so that scaling gives the bias of their distance.
inline float bias_of(constant candela::shader::AttentionParams& p, device const float* bias, uint h, int t,
                     int j) {
  if (p.has_bias == 0) return 0.0f;
  long distance = larger(-p.reach, smaller(p.reach, static_cast<long>(j) - static_cast<long>(t)));
  return bias[static_cast<long>(h) * p.bias_head + (distance + p.reach) * p.bias_step] / p.scale;
}

#endif
