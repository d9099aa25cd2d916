#pragma once

#include "backend/cuda/kernels/common.cuh"

namespace candela::cuda {

/// V neighbours of every operand.
template <class T, int V, int N>
struct LoopUnit {
  Pack<T, V> at[N];
};

/// Reads the inputs of unit i of a loop. An input's innermost stride is 1, or 0 where it is broadcast, if V
/// > 1.
template <class T, int V, int kOut, int N>
__device__ inline void load_loop_unit(const LoopParams<N>& p, T* const (&base)[N], std::int64_t i,
                                      LoopUnit<T, V, N>& unit) {
#pragma unroll
  for (int n = kOut; n < N; ++n) {
    const std::int64_t stride = p.strides[n][p.rank - 1];
    if (V == 1) {
      unit.at[n].v[0] = base[n][i * stride];
    } else if (stride == 1) {
      unit.at[n] = *reinterpret_cast<const Pack<T, V>*>(base[n] + i * V);
    } else {
      const T same = *base[n];
#pragma unroll
      for (int e = 0; e < V; ++e) unit.at[n].v[e] = same;
    }
  }
}

template <class T, int V, int kOut, int N, class F>
__device__ inline void finish_loop_unit(const LoopParams<N>& p, T* const (&base)[N], std::int64_t i,
                                        LoopUnit<T, V, N>& unit, const F& f) {
#pragma unroll
  for (int e = 0; e < V; ++e) {
    float values[N];
#pragma unroll
    for (int n = kOut; n < N; ++n) values[n] = to_float(unit.at[n].v[e]);
    f(values);
#pragma unroll
    for (int n = 0; n < kOut; ++n) unit.at[n].v[e] = from_float<T>(values[n]);
  }
#pragma unroll
  for (int n = 0; n < kOut; ++n) {
    if (V == 1) {
      base[n][i * p.strides[n][p.rank - 1]] = unit.at[n].v[0];
    } else {
      *reinterpret_cast<Pack<T, V>*>(base[n] + i * V) = unit.at[n];
    }
  }
}

/// out_j = f(in), element by element: operands 0 .. kOut - 1 are results, the others inputs. A thread takes V
/// neighbours of two rows at a time, so that the reads of both are on their way together; an output may be an
/// input.
template <class T, int V, int kOut, int N, class F>
__global__ void loop_kernel(LoopParams<N> p, F f) {
  const std::int64_t packs = p.inner / V;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t outer_step = static_cast<std::int64_t>(gridDim.y) * blockDim.y;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < p.outer;
       row += 2 * outer_step) {
    const bool both = row + outer_step < p.outer;
    T* first[N];
    T* second[N];
#pragma unroll
    for (int n = 0; n < N; ++n) {
      first[n] = static_cast<T*>(p.data[n]) + outer_offset(p, row, n);
      second[n] = static_cast<T*>(p.data[n]) + outer_offset(p, both ? row + outer_step : row, n);
    }
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs;
         i += step) {
      LoopUnit<T, V, N> a;
      LoopUnit<T, V, N> b;
      load_loop_unit<T, V, kOut>(p, first, i, a);
      if (both) load_loop_unit<T, V, kOut>(p, second, i, b);
      finish_loop_unit<T, V, kOut>(p, first, i, a, f);
      if (both) finish_loop_unit<T, V, kOut>(p, second, i, b, f);
    }
  }
}

/// Whether V elements of `bytes` each can be accessed at once.
template <int N>
bool can_pack(const LoopParams<N>& p, int results, int v, int bytes) {
  if (p.inner % v != 0) return false;
  for (int n = 0; n < N; ++n) {
    const std::int64_t inner = p.strides[n][p.rank - 1];
    if (inner != 1 && (inner != 0 || n < results)) return false;
    if (inner == 0) continue;
    if (reinterpret_cast<std::uintptr_t>(p.data[n]) % static_cast<std::uintptr_t>(v * bytes) != 0)
      return false;
    for (int d = 0; d + 1 < p.rank; ++d) {
      if (p.strides[n][d] % v != 0) return false;
    }
  }
  return true;
}

struct LoopGrid {
  dim3 grid, block;
};
inline LoopGrid loop_grid(std::int64_t units, std::int64_t outer) {
  constexpr unsigned kThreads = 256;
  unsigned across = 1;
  while (across < kThreads && across < units) across *= 2;
  // Rows a little longer than a multiple of the block leave much of their last one idle.
  while (outer > 1 && across > kWarp && ceil_div(units, across) * across * 10 > units * 11) across /= 2;
  const unsigned down = kThreads / across;
  // Without an outer loop, more than enough threads to fill the chip; they stride on.
  const std::int64_t blocks = std::min<std::int64_t>(ceil_div(units, across), outer > 1 ? 1 << 16 : 1 << 20);
  return {dim3(static_cast<unsigned>(blocks),
               static_cast<unsigned>(std::min<std::int64_t>(ceil_div(outer, 2 * down), 65535))),
          dim3(across, down)};
}

template <int kOut, int N, class F>
cudaError_t launch_loop(const LoopParams<N>& p, Type type, cudaStream_t stream, F f) {
  return dispatch(type, [&]<class T>() {
    if (can_pack(p, kOut, kPack<T>, sizeof(T))) {
      const LoopGrid g = loop_grid(p.inner / kPack<T>, p.outer);
      loop_kernel<T, kPack<T>, kOut><<<g.grid, g.block, 0, stream>>>(p, f);
    } else {
      const LoopGrid g = loop_grid(p.inner, p.outer);
      loop_kernel<T, 1, kOut><<<g.grid, g.block, 0, stream>>>(p, f);
    }
    return cudaGetLastError();
  });
}

}  // namespace candela::cuda
