#pragma once

#include "backend/cuda/kernels/common.cuh"

namespace candela::cuda {

/// out_j = f(in), element by element: operands 0 .. kOut - 1 are results, the others inputs. A thread takes V
/// neighbours; where V > 1 an input's innermost stride is 1, or 0 where it is broadcast.
template <class T, int V, int kOut, int N, class F>
__global__ void loop_kernel(LoopParams<N> p, F f) {
  const std::int64_t packs = p.inner / V;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t outer_step = static_cast<std::int64_t>(gridDim.y) * blockDim.y;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < p.outer;
       row += outer_step) {
    T* base[N];
#pragma unroll
    for (int n = 0; n < N; ++n) base[n] = static_cast<T*>(p.data[n]) + outer_offset(p, row, n);
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs;
         i += step) {
      Pack<T, V> in[N];
#pragma unroll
      for (int n = kOut; n < N; ++n) {
        const std::int64_t stride = p.strides[n][p.rank - 1];
        if (V == 1) {
          in[n].v[0] = base[n][i * stride];
        } else if (stride == 1) {
          in[n] = *reinterpret_cast<const Pack<T, V>*>(base[n] + i * V);
        } else {
          const T same = *base[n];
#pragma unroll
          for (int e = 0; e < V; ++e) in[n].v[e] = same;
        }
      }
#pragma unroll
      for (int e = 0; e < V; ++e) {
        float values[N];
#pragma unroll
        for (int n = kOut; n < N; ++n) values[n] = to_float(in[n].v[e]);
        f(values);
#pragma unroll
        for (int n = 0; n < kOut; ++n) in[n].v[e] = from_float<T>(values[n]);
      }
#pragma unroll
      for (int n = 0; n < kOut; ++n) {
        if (V == 1) {
          base[n][i * p.strides[n][p.rank - 1]] = in[n].v[0];
        } else {
          *reinterpret_cast<Pack<T, V>*>(base[n] + i * V) = in[n];
        }
      }
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
               static_cast<unsigned>(std::min<std::int64_t>(ceil_div(outer, down), 65535))),
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
