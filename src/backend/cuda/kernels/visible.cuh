#pragma once

#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/kernels/common.cuh"

/// Which keys a query sees, and which queries a key (args/attention.h).
namespace candela::cuda {

struct Interval {
  std::int64_t begin, end;
};

__device__ inline std::int64_t smaller(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
__device__ inline std::int64_t larger(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}

/// The packed sequence that token t lies in.
__device__ inline Interval sequence_of(const AttentionParams& p, std::int64_t t) {
  std::int64_t low = 0;
  std::int64_t high = p.sequences;  // the last bound that is not above t
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (p.cu_seqlens[middle * p.cu_seqlens_step] <= t ? low : high) = middle;
  }
  return {larger(p.cu_seqlens[low * p.cu_seqlens_step], 0),
          smaller(p.cu_seqlens[(low + 1) * p.cu_seqlens_step], p.keys)};
}

__device__ inline std::int64_t start_of(const AttentionParams& p, std::int64_t b) {
  return p.q_start != nullptr ? p.q_start[b * p.q_start_step] : p.keys - p.queries;
}

/// Keys that query t of row b sees.
__device__ inline Interval keys_of(const AttentionParams& p, std::int64_t b, std::int64_t t) {
  const std::int64_t position = start_of(p, b) + t;
  Interval seen{0, p.keys};
  if (p.cu_seqlens != nullptr) seen = sequence_of(p, t);
  if (p.causal) seen.end = smaller(seen.end, position + 1);
  if (p.window_after > 0) seen.end = smaller(seen.end, position + p.window_after);
  if (p.window > 0) seen.begin = larger(seen.begin, position - p.window + 1);
  return seen;
}

/// Queries of row b that see key j.
__device__ inline Interval queries_of(const AttentionParams& p, std::int64_t b, std::int64_t j) {
  const std::int64_t start = start_of(p, b);
  Interval seen{0, p.queries};
  if (p.cu_seqlens != nullptr) seen = sequence_of(p, j);
  if (p.causal) seen.begin = larger(seen.begin, j - start);
  if (p.window_after > 0) seen.begin = larger(seen.begin, j - start - p.window_after + 1);
  if (p.window > 0) seen.end = smaller(seen.end, j + p.window - start);
  return seen;
}

template <class T>
__device__ inline T* head_of(const HeadsParams& x, std::int64_t b, std::int64_t t, std::int64_t h) {
  return static_cast<T*>(x.data) + b * x.strides[0] + t * x.strides[1] + h * x.strides[2];
}

}  // namespace candela::cuda
