#pragma once

#include <algorithm>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "backend/cuda/kernels/params.h"

/// What kernels share: conversions, 16-byte packs, reductions over the threads of a row.
namespace candela::cuda {

inline constexpr int kWarp = 32;

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}

template <class T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

/// V neighbouring elements, read and written by one access.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T v[V];
};

/// Elements of a 16-byte access.
template <class T>
inline constexpr int kPack = 16 / static_cast<int>(sizeof(T));

/// From a run-time type to f32, bf16 or f16: body.operator()<T>().
template <class F>
cudaError_t dispatch(Type type, F&& body) {
  switch (type) {
    case Type::F32:
      return body.template operator()<float>();
    case Type::BF16:
      return body.template operator()<__nv_bfloat16>();
    case Type::F16:
      return body.template operator()<__half>();
    default:
      return cudaErrorInvalidValue;
  }
}

template <class F>
cudaError_t dispatch_index(Type type, F&& body) {
  if (type == Type::I32) return body.template operator()<std::int32_t>();
  if (type == Type::I64) return body.template operator()<std::int64_t>();
  return cudaErrorInvalidValue;
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Blocks for `work` units, one at least, so many that a grid can hold them.
inline unsigned grid_of(std::int64_t work, std::int64_t per_block) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(ceil_div(work, per_block), 1, std::int64_t{1} << 30));
}

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
/// NaN wins.
struct Max {
  __device__ float operator()(float a, float b) const { return a > b || a != a ? a : b; }
};
struct Min {
  __device__ float operator()(float a, float b) const { return a < b || a != a ? a : b; }
};

template <class Op>
__device__ inline float reduce_warp(float value, Op op, int width = kWarp) {
  for (int step = width / 2; step > 0; step /= 2)
    value = op(value, __shfl_xor_sync(0xffffffffU, value, step));
  return value;
}

/// The reduction over the blockDim.x threads of a row (a power of two, at most 1024), the same in each of
/// them. `slots` has 32 floats per row of the block. Every thread of the block must call it.
template <class Op>
__device__ inline float reduce_row(float value, Op op, float* slots) {
  const int width = static_cast<int>(blockDim.x);
  if (width <= kWarp) return reduce_warp(value, op, width);
  value = reduce_warp(value, op);
  float* mine = slots + threadIdx.y * kWarp;
  const int warps = width / kWarp;
  __syncthreads();  // the slots may still be read from an earlier reduction
  if (threadIdx.x % kWarp == 0) mine[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = mine[threadIdx.x % warps];
  return reduce_warp(value, op, warps);
}

template <int N>
__device__ inline std::int64_t row_offset(const RowParams<N>& p, std::int64_t row, int n) {
  if (p.rank <= 1) return row * p.strides[n][0];
  std::int64_t offset = 0;
  for (int d = p.rank - 1; d > 0; --d) {
    offset += row % p.shape[d] * p.strides[n][d];
    row /= p.shape[d];
  }
  return offset + row * p.strides[n][0];
}

template <class T, int N>
__device__ inline T* row_of(const RowParams<N>& p, std::int64_t row, int n) {
  return static_cast<T*>(p.data[n]) + row_offset(p, row, n);
}

template <int N>
__device__ inline std::int64_t outer_offset(const LoopParams<N>& p, std::int64_t index, int n) {
  if (p.rank < 2) return 0;
  std::int64_t offset = 0;
  for (int d = p.rank - 2; d > 0; --d) {
    offset += index % p.shape[d] * p.strides[n][d];
    index /= p.shape[d];
  }
  return offset + index * p.strides[n][0];
}

/// Threads of a row of `units` (elements or packs), and rows of a block of about 128 threads.
struct RowBlock {
  dim3 block;
  unsigned rows;
};
inline RowBlock row_block(std::int64_t units, unsigned most = 1024) {
  unsigned threads = 1;
  while (threads < most && threads < units) threads *= 2;
  // Shuffles need whole warps: a block is never smaller than one.
  const unsigned rows = std::max(1U, 128U / threads);
  return {dim3(threads, rows), rows};
}

/// The first fault of a run is kept.
__device__ inline void report(Fault* fault, int code, std::int64_t value, std::int64_t bound) {
  if (atomicCAS(&fault->code, kNoFault, code) == kNoFault) {
    fault->value = value;
    fault->bound = bound;
    __threadfence_system();
  }
}

}  // namespace candela::cuda
