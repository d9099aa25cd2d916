#include <cooperative_groups.h>

#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/loss.h"

namespace candela::cuda {
namespace {

constexpr int kThreads = 512;

/// The largest value of a row and the sum of exponentials beside it, joined as they are met.
struct Top {
  float top = -INFINITY, total = 0;
};

__device__ Top join(const Top& a, const Top& b) {
  const float top = Max()(a.top, b.top);
  // Equal infinities leave each other as they are.
  const auto shrink = [&](const Top& x) { return x.top == top ? x.total : x.total * __expf(x.top - top); };
  return {top, shrink(a) + shrink(b)};
}

__device__ void meet(Top& sofar, float x) {
  if (x == -INFINITY) return;  // adds nothing; a row of nothing else keeps total 0
  if (x > sofar.top || x != x) {
    sofar.total = (sofar.total > 0 ? sofar.total * __expf(sofar.top - x) : 0) + __expf(x - x);
    sofar.top = x;
  } else {
    sofar.total += __expf(x - sofar.top);
  }
}

/// Four at once: one step of the running largest.
__device__ void meet(Top& sofar, const float4& x) {
  const float top = fmaxf(fmaxf(x.x, x.y), fmaxf(x.z, x.w));
  const bool plain = top > -INFINITY && isfinite(x.x + x.y + x.z + x.w);
  if (!plain) {
    meet(sofar, x.x);
    meet(sofar, x.y);
    meet(sofar, x.z);
    meet(sofar, x.w);
    return;
  }
  if (top > sofar.top) {
    sofar.total = sofar.total > 0 ? sofar.total * __expf(sofar.top - top) : 0;
    sofar.top = top;
  }
  sofar.total += (__expf(x.x - sofar.top) + __expf(x.y - sofar.top)) +
                 (__expf(x.z - sofar.top) + __expf(x.w - sofar.top));
}

/// What the threads of a block met, joined, in all of them.
__device__ Top join_block(Top mine) {
  __shared__ Top slots[kThreads / kWarp];
  const auto join_warp = [&](int width) {
    for (int step = width / 2; step > 0; step /= 2) {
      const Top other{__shfl_xor_sync(0xffffffffU, mine.top, step),
                      __shfl_xor_sync(0xffffffffU, mine.total, step)};
      mine = join(mine, other);
    }
  };
  join_warp(kWarp);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = mine;
  __syncthreads();
  mine = slots[threadIdx.x % (kThreads / kWarp)];
  join_warp(kThreads / kWarp);
  return mine;
}

/// log(sum(exp(x))) of a row from what its threads met, in all of them.
__device__ float log_sum_exp(Top mine) {
  mine = join_block(mine);
  return mine.top + logf(mine.total);
}

template <class I>
__device__ std::int64_t target_of(const void* targets, std::int64_t step, std::int64_t row) {
  return static_cast<const I*>(targets)[row * step];
}

template <class T, class I>
__global__ void cross_entropy_kernel(CrossEntropyParams p) {
  const std::int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(p.logits) + row * p.row_stride;
  const std::int64_t target = target_of<I>(p.targets, p.target_step, row);
  Top mine;
  for (std::int64_t i = threadIdx.x; i < p.classes; i += kThreads)
    meet(mine, to_float(x[i * p.column_stride]));
  const float lse = log_sum_exp(mine);
  if (threadIdx.x != 0) return;
  p.lse[row * p.lse_step] = lse;
  float loss = 0;
  if (target != p.ignored) {
    if (target < 0 || target >= p.classes) {
      report(p.fault, kTarget, target, p.classes);
    } else {
      loss = lse - to_float(x[target * p.column_stride]);
    }
  }
  p.loss[row * p.loss_step] = loss;
}

template <class T, class I>
__global__ void cross_entropy_grad_kernel(CrossEntropyGradParams p) {
  const CrossEntropyParams& f = p.forward;
  const std::int64_t row = blockIdx.y;
  const T* x = static_cast<const T*>(f.logits) + row * f.row_stride;
  T* dx = static_cast<T*>(p.dlogits) + row * p.dlogits_row;
  const std::int64_t target = target_of<I>(f.targets, f.target_step, row);
  const float lse = f.lse[row * f.lse_step];
  const float slope = p.dloss[row * p.dloss_step];
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < f.classes;
       i += step) {
    float value = 0;
    if (target != f.ignored)
      value = (expf(to_float(x[i * f.column_stride]) - lse) - (i == target ? 1.0F : 0.0F)) * slope;
    dx[i * p.dlogits_column] = from_float<T>(value);
  }
}

/// V neighbours at once: 4 where rows begin at multiples of 16 bytes, else 1.
template <class T, class I, int V>
__global__ void __launch_bounds__(kThreads) head_loss_kernel(HeadLossParams p) {
  const std::int64_t row = blockIdx.x;
  float* x = p.logits + row * p.classes;
  const std::int64_t target = target_of<I>(p.targets, p.target_step, row);
  const bool ignored = target == p.ignored;
  const std::int64_t units = p.classes / V;
  float lse = 0;
  if (!ignored) {
    Top mine;
    for (std::int64_t i = threadIdx.x; i < units; i += kThreads) {
      if constexpr (V == 4) {
        meet(mine, reinterpret_cast<const float4*>(x)[i]);
      } else {
        meet(mine, x[i]);
      }
    }
    lse = log_sum_exp(mine);
  }
  if (threadIdx.x == 0) {
    float loss = 0;
    if (!ignored) {
      if (target < 0 || target >= p.classes) {
        report(p.fault, kTarget, target, p.classes);
      } else {
        loss = lse - x[target];
      }
    }
    p.loss[row] = loss;
  }
  if (!p.gradient) return;
  // A chunk is read before any thread writes: what is written lies at or before what was read.
  T* dx = reinterpret_cast<T*>(x);
  constexpr int kEach = 2;
  for (std::int64_t start = 0; start < units; start += kThreads * kEach) {
    Pack<float, V> values[kEach];
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      const std::int64_t i = start + k * kThreads + threadIdx.x;
      if (i < units) values[k] = reinterpret_cast<const Pack<float, V>*>(x)[i];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      const std::int64_t i = start + k * kThreads + threadIdx.x;
      if (i >= units) continue;
      Pack<T, V> result;
#pragma unroll
      for (int e = 0; e < V; ++e) {
        const float onehot = i * V + e == target ? 1.0F : 0.0F;
        result.v[e] = from_float<T>(ignored ? 0.0F : __expf(values[k].v[e] - lse) - onehot);
      }
      reinterpret_cast<Pack<T, V>*>(dx)[i] = result;
    }
  }
}

constexpr int kCluster = 8;           // blocks of a row
constexpr int kMaxClusterUnits = 10;  // float4 of a thread

/// Loss and gradient of a row in one pass over memory: a cluster of blocks keeps the row in its registers, K
/// float4 a thread, and joins its sums through shared memory of the cluster. The gradient is written once every
/// block has read its share.
template <class T, class I, int K>
__global__ void __launch_bounds__(kThreads, 2) head_loss_cluster_kernel(HeadLossParams p) {
#if __CUDA_ARCH__ >= 900
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  // Two, taken in turn: a block may be a row ahead of those that read its sums.
  __shared__ Top sums[2];
  const std::int64_t units = p.classes / 4;
  const std::int64_t share = (units + kCluster - 1) / kCluster;
  const std::int64_t begin = cluster.block_rank() * share;
  const std::int64_t end = begin + share < units ? begin + share : units;
  const bool leads = cluster.block_rank() == 0 && threadIdx.x == 0;
  int turn = 0;
  for (std::int64_t row = blockIdx.x / kCluster; row < p.rows; row += gridDim.x / kCluster) {
    float* x = p.logits + row * p.classes;
    const std::int64_t target = target_of<I>(p.targets, p.target_step, row);
    const bool ignored = target == p.ignored;
    const bool inside = target >= 0 && target < p.classes;
    float4 values[K];
    float lse = 0;
    if (!ignored) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const std::int64_t i = begin + k * kThreads + threadIdx.x;
        values[k] = i < end ? reinterpret_cast<const float4*>(x)[i]
                            : make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
      }
      const float at_target = leads && inside ? x[target] : 0.0F;
      Top mine;
#pragma unroll
      for (int k = 0; k < K; ++k) meet(mine, values[k]);
      mine = join_block(mine);
      if (threadIdx.x == 0) sums[turn] = mine;
      cluster.sync();
      Top all;
      for (unsigned rank = 0; rank < kCluster; ++rank) all = join(all, *cluster.map_shared_rank(&sums[turn], rank));
      lse = all.top + logf(all.total);
      turn ^= 1;
      if (leads && !inside) report(p.fault, kTarget, target, p.classes);
      if (leads) p.loss[row] = inside ? lse - at_target : 0.0F;
    } else if (leads) {
      p.loss[row] = 0;
    }
    Pack<T, 4>* dx = reinterpret_cast<Pack<T, 4>*>(x);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const std::int64_t i = begin + k * kThreads + threadIdx.x;
      if (i >= end) continue;
      const float in[4] = {values[k].x, values[k].y, values[k].z, values[k].w};
      Pack<T, 4> result;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float onehot = i * 4 + e == target ? 1.0F : 0.0F;
        result.v[e] = from_float<T>(ignored ? 0.0F : __expf(in[e] - lse) - onehot);
      }
      dx[i] = result;
    }
  }
  cluster.sync();  // the others may still read this block's sums
#endif
}

template <class T, class I, int K>
cudaError_t launch_head_loss_cluster(const HeadLossParams& params, cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kCluster);
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = kCluster;
  attribute.val.clusterDim.y = 1;
  attribute.val.clusterDim.z = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  // As many clusters as are resident at once: one more would run alone behind them, and take as long again.
  int resident = 0;
  const cudaError_t error = cudaOccupancyMaxActiveClusters(&resident, head_loss_cluster_kernel<T, I, K>, &config);
  if (error != cudaSuccess) return error;
  const std::int64_t clusters = std::clamp<std::int64_t>(params.rows, 1, std::max(resident, 1));
  config.gridDim = dim3(static_cast<unsigned>(clusters) * kCluster);
  return cudaLaunchKernelEx(&config, head_loss_cluster_kernel<T, I, K>, params);
}

__global__ void sum_rows_kernel(const float* values, std::int64_t count, float* total, bool add) {
  __shared__ float slots[32];
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += static_cast<double>(values[i]);
  // In two parts: what a float of the sum lacks is summed beside it.
  const float high = static_cast<float>(sum);
  const float low = isfinite(high) ? static_cast<float>(sum - static_cast<double>(high)) : 0.0F;
  const float high_sum = reduce_row(high, Sum(), slots);
  const float low_sum = reduce_row(low, Sum(), slots);
  if (threadIdx.x == 0) *total = (add ? *total : 0.0F) + (high_sum + low_sum);
}

}  // namespace

cudaError_t launch_cross_entropy(const CrossEntropyParams& params, Type type, Type index,
                                 cudaStream_t stream) {
  return dispatch(type, [&]<class T>() {
    return dispatch_index(index, [&]<class I>() {
      cross_entropy_kernel<T, I><<<static_cast<unsigned>(params.rows), kThreads, 0, stream>>>(params);
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_cross_entropy_grad(const CrossEntropyGradParams& params, Type type, Type index,
                                      cudaStream_t stream) {
  const std::int64_t across = std::clamp<std::int64_t>(ceil_div(params.forward.classes, 4 * kThreads), 1, 64);
  return dispatch(type, [&]<class T>() {
    return dispatch_index(index, [&]<class I>() {
      // Rows beyond a grid's height come in further launches.
      CrossEntropyGradParams part = params;
      constexpr std::int64_t kRows = 65535;
      for (std::int64_t first = 0; first < params.forward.rows; first += kRows) {
        part.forward.logits =
            static_cast<const T*>(params.forward.logits) + first * params.forward.row_stride;
        part.forward.targets =
            static_cast<const I*>(params.forward.targets) + first * params.forward.target_step;
        part.forward.lse = params.forward.lse + first * params.forward.lse_step;
        part.dloss = params.dloss + first * params.dloss_step;
        part.dlogits = static_cast<T*>(params.dlogits) + first * params.dlogits_row;
        const dim3 grid(static_cast<unsigned>(across),
                        static_cast<unsigned>(std::min(kRows, params.forward.rows - first)));
        cross_entropy_grad_kernel<T, I><<<grid, kThreads, 0, stream>>>(part);
      }
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_head_loss(const HeadLossParams& params, Type type, Type index, cudaStream_t stream) {
  const std::int64_t each = ceil_div(ceil_div(params.classes / 4, kCluster), kThreads);
  const bool clusters =
      params.clusters && params.gradient && params.classes % 4 == 0 && each <= kMaxClusterUnits;
  return dispatch(type, [&]<class T>() {
    return dispatch_index(index, [&]<class I>() {
      if (clusters && each <= 2) return launch_head_loss_cluster<T, I, 2>(params, stream);
      if (clusters && each <= 5) return launch_head_loss_cluster<T, I, 5>(params, stream);
      if (clusters) return launch_head_loss_cluster<T, I, kMaxClusterUnits>(params, stream);
      if (params.classes % 4 == 0) {
        head_loss_kernel<T, I, 4><<<static_cast<unsigned>(params.rows), kThreads, 0, stream>>>(params);
      } else {
        head_loss_kernel<T, I, 1><<<static_cast<unsigned>(params.rows), kThreads, 0, stream>>>(params);
      }
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_sum_rows(const float* values, std::int64_t count, float* total, bool add,
                            cudaStream_t stream) {
  sum_rows_kernel<<<1, 1024, 0, stream>>>(values, count, total, add);
  return cudaGetLastError();
}

}  // namespace candela::cuda
