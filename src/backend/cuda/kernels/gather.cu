#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/gather.h"

namespace candela::cuda {
namespace {

constexpr int kThreads = 256;

template <class T, class I, int V>
__global__ void embedding_kernel(EmbeddingParams p) {
  const std::int64_t n = blockIdx.x;
  const std::int64_t id = static_cast<const I*>(p.ids)[n * p.id_step];
  if (id < 0 || id >= p.classes) {
    if (threadIdx.x == 0 && blockIdx.y == 0) report(p.fault, kEmbeddingId, id, p.classes);
    return;
  }
  const T* from = static_cast<const T*>(p.weight) + id * p.weight_row;
  T* to = static_cast<T*>(p.out) + n * p.out_row;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.y) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x; i < p.width / V;
       i += step) {
    if constexpr (V > 1) {
      reinterpret_cast<Pack<T, V>*>(to)[i] = reinterpret_cast<const Pack<T, V>*>(from)[i];
    } else {
      to[i] = from[i * p.weight_column];
    }
  }
}

/// Ids are met kThreads at a time; the matches of a chunk are added up in their order.
template <class T, class I>
__global__ void embedding_grad_kernel(EmbeddingGradParams p) {
  __shared__ int found[kThreads];
  __shared__ int warp_counts[kThreads / kWarp];
  constexpr int kMost = 4;  // columns of a thread in one sweep over the ids
  const std::int64_t cls = blockIdx.x;
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.y) * kThreads) * kMost + threadIdx.x;
  float sums[kMost] = {};
  for (std::int64_t start = 0; start < p.count; start += kThreads) {
    const std::int64_t n = start + threadIdx.x;
    const bool match =
        n < p.count && static_cast<std::int64_t>(static_cast<const I*>(p.ids)[n * p.id_step]) == cls;
    if (__syncthreads_count(match) == 0) continue;
    const unsigned votes = __ballot_sync(0xffffffffU, match);
    const int warp = threadIdx.x / kWarp;
    if (threadIdx.x % kWarp == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int before = __popc(votes & ((1U << (threadIdx.x % kWarp)) - 1));
    int total = 0;
    for (int w = 0; w < kThreads / kWarp; ++w) {
      if (w < warp) before += warp_counts[w];
      total += warp_counts[w];
    }
    if (match) found[before] = threadIdx.x;
    __syncthreads();
    for (int m = 0; m < total; ++m) {
      const T* dy = static_cast<const T*>(p.dy) + (start + found[m]) * p.dy_row;
#pragma unroll
      for (int k = 0; k < kMost; ++k) {
        const std::int64_t column = first + k * kThreads;
        if (column < p.width) sums[k] += to_float(dy[column * p.dy_column]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int k = 0; k < kMost; ++k) {
    const std::int64_t column = first + k * kThreads;
    if (column < p.width) p.dweight[cls * p.dweight_row + column * p.dweight_column] = sums[k];
  }
}

template <class T, class I>
__global__ void gather_kernel(GatherParams p) {
  const std::int64_t total = p.rows.count * p.rows.length;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; at < total;
       at += step) {
    const std::int64_t row = at / p.rows.length;
    const std::int64_t i = at % p.rows.length;
    const std::int64_t pick = row_of<const I>(p.rows, row, 1)[i * p.rows.step[1]];
    if (pick < 0 || pick >= p.length) {
      report(p.fault, kGatherIndex, pick, p.length);
      continue;
    }
    row_of<T>(p.rows, row, 0)[i * p.rows.step[0]] = row_of<T>(p.rows, row, 2)[pick * p.rows.step[2]];
  }
}

template <class T, class I>
__global__ void gather_grad_kernel(GatherParams p) {
  const std::int64_t total = p.rows.count * p.length;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; at < total;
       at += step) {
    const std::int64_t row = at / p.length;
    const std::int64_t target = at % p.length;
    const T* dy = row_of<const T>(p.rows, row, 0);
    const I* index = row_of<const I>(p.rows, row, 1);
    float sum = 0;
    for (std::int64_t i = 0; i < p.rows.length; ++i) {
      if (static_cast<std::int64_t>(index[i * p.rows.step[1]]) == target)
        sum += to_float(dy[i * p.rows.step[0]]);
    }
    row_of<float>(p.rows, row, 2)[target * p.rows.step[2]] = sum;
  }
}

}  // namespace

cudaError_t launch_embedding(const EmbeddingParams& params, Type type, Type index, cudaStream_t stream) {
  return dispatch(type, [&]<class T>() {
    return dispatch_index(index, [&]<class I>() {
      constexpr std::int64_t kV = kPack<T>;
      const bool packed = params.weight_column == 1 && params.width % kV == 0 &&
                          params.weight_row % kV == 0 && params.out_row % kV == 0 &&
                          reinterpret_cast<std::uintptr_t>(params.weight) % 16 == 0 &&
                          reinterpret_cast<std::uintptr_t>(params.out) % 16 == 0;
      const std::int64_t units = packed ? params.width / kV : params.width;
      const dim3 grid(static_cast<unsigned>(params.count),
                      static_cast<unsigned>(std::clamp<std::int64_t>(units / (4 * kThreads), 1, 64)));
      if (packed) {
        embedding_kernel<T, I, kPack<T>><<<grid, kThreads, 0, stream>>>(params);
      } else {
        embedding_kernel<T, I, 1><<<grid, kThreads, 0, stream>>>(params);
      }
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_embedding_grad(const EmbeddingGradParams& params, Type type, Type index,
                                  cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(params.classes),
                  static_cast<unsigned>(ceil_div(params.width, 4 * kThreads)));
  return dispatch(type, [&]<class T>() {
    return dispatch_index(index, [&]<class I>() {
      embedding_grad_kernel<T, I><<<grid, kThreads, 0, stream>>>(params);
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_gather(const GatherParams& params, Type type, Type index, cudaStream_t stream) {
  return dispatch(type, [&]<class T>() {
    return dispatch_index(index, [&]<class I>() {
      gather_kernel<T, I>
          <<<grid_of(params.rows.count * params.rows.length, kThreads), kThreads, 0, stream>>>(params);
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_gather_grad(const GatherParams& params, Type type, Type index, cudaStream_t stream) {
  return dispatch(type, [&]<class T>() {
    return dispatch_index(index, [&]<class I>() {
      gather_grad_kernel<T, I>
          <<<grid_of(params.rows.count * params.length, kThreads), kThreads, 0, stream>>>(params);
      return cudaGetLastError();
    });
  });
}

}  // namespace candela::cuda
