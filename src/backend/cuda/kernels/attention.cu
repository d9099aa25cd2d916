#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/kernels/visible.cuh"

namespace candela::cuda {
namespace {

constexpr int kWarps = 4;

/// Copies a head to shared memory as floats, by one warp.
template <class T>
__device__ void keep_head(const T* from, float* to, std::int64_t size) {
  for (std::int64_t d = threadIdx.x % kWarp; d < size; d += kWarp) to[d] = to_float(from[d]);
  __syncwarp();
}

template <class T>
__device__ float dot(const float* kept, const T* row, std::int64_t size) {
  float sums[4] = {};
  std::int64_t d = 0;
  for (; d + 4 <= size; d += 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += kept[d + i] * to_float(row[d + i]);
  }
  for (; d < size; ++d) sums[0] += kept[d] * to_float(row[d]);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// What is added to the product of query t and key j, so that scaling gives the bias of their distance.
__device__ float bias_of(const AttentionParams& p, std::int64_t h, std::int64_t t, std::int64_t j) {
  if (p.distance_bias == nullptr) return 0;
  const std::int64_t distance = larger(-p.reach, smaller(p.reach, j - t));
  return p.distance_bias[h * p.bias_head + (distance + p.reach) * p.bias_step] / p.scale;
}

/// The weight of a key whose product with the query is `product`. A negative total marks the statistic of
/// cuDNN: top is then the logarithm of the sum of exponentials of the scaled products.
__device__ float weight_of(const AttentionParams& p, float product, float top, float total) {
  return total < 0 ? expf(p.scale * product - top) : expf(p.scale * (product - top)) / total;
}

/// A warp takes one query; its lanes 32 keys at a time for the scores, then elements of the head for the
/// sums.
template <class T, int C>
__global__ void __launch_bounds__(kWarps* kWarp) attention_kernel(AttentionParams p) {
  extern __shared__ float kept[];
  const int lane = threadIdx.x % kWarp;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (index >= p.batch * p.heads * p.queries) return;
  const std::int64_t t = index % p.queries;
  const std::int64_t h = index / p.queries % p.heads;
  const std::int64_t b = index / p.queries / p.heads;
  const std::int64_t key_head = h / (p.heads / p.key_heads);
  float* q = kept + threadIdx.x / kWarp * p.size;
  keep_head(head_of<T>(p.q, b, t, h), q, p.size);
  const Interval seen = keys_of(p, b, t);
  const float sign = p.scale < 0 ? -1.0F : 1.0F;
  const float factor = fabsf(p.scale);
  float top = -INFINITY;
  float total = 0;
  float sums[C] = {};
  for (std::int64_t first = seen.begin; first < seen.end; first += kWarp) {
    const std::int64_t j = first + lane;
    const bool visible = j < seen.end;
    const float score =
        visible ? sign * (dot(q, head_of<T>(p.k, b, j, key_head), p.size) + bias_of(p, h, t, j)) : -INFINITY;
    const float before = top;
    top = Max()(top, reduce_warp(score, Max()));
    const float shift = top == -INFINITY ? 0.0F : top;
    const float weight = visible ? expf(factor * (score - shift)) : 0.0F;
    const float decay = before == top ? 1.0F : expf(factor * (before - shift));
    total = total * decay + reduce_warp(weight, Sum());
#pragma unroll
    for (int c = 0; c < C; ++c) sums[c] *= decay;
    const int count = static_cast<int>(smaller(kWarp, seen.end - first));
    for (int i = 0; i < count; ++i) {
      const float w = __shfl_sync(0xffffffffU, weight, i);
      const T* v = head_of<T>(p.v, b, first + i, key_head);
#pragma unroll
      for (int c = 0; c < C; ++c) {
        if (c * kWarp + lane < p.size) sums[c] += w * to_float(v[c * kWarp + lane]);
      }
    }
  }
  T* out = head_of<T>(p.out, b, t, h);
  const bool empty = seen.begin >= seen.end;
#pragma unroll
  for (int c = 0; c < C; ++c) {
    if (c * kWarp + lane < p.size) out[c * kWarp + lane] = from_float<T>(empty ? 0.0F : sums[c] / total);
  }
  if (p.top != nullptr && lane == 0) {
    p.top[index] = sign * top;
    p.total[index] = total;
  }
}

/// dq, a warp per query, and delta for the kernel below.
template <class T, int C>
__global__ void __launch_bounds__(kWarps* kWarp) query_grad_kernel(AttentionGradParams g) {
  extern __shared__ float kept[];
  const AttentionParams& p = g.forward;
  const int lane = threadIdx.x % kWarp;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (index >= p.batch * p.heads * p.queries) return;
  const std::int64_t t = index % p.queries;
  const std::int64_t h = index / p.queries % p.heads;
  const std::int64_t b = index / p.queries / p.heads;
  const std::int64_t key_head = h / (p.heads / p.key_heads);
  float* q = kept + threadIdx.x / kWarp * 2 * p.size;
  float* dout = q + p.size;
  keep_head(head_of<T>(p.q, b, t, h), q, p.size);
  keep_head(head_of<T>(g.dout, b, t, h), dout, p.size);
  const Interval seen = keys_of(p, b, t);
  const float top = p.top[index];
  const float total = p.total[index];
  // Of the weights themselves: from the rounded output it would not vanish where a query sees one key.
  float delta = 0;
  for (std::int64_t j = seen.begin + lane; j < seen.end; j += kWarp) {
    delta += weight_of(p, dot(q, head_of<T>(p.k, b, j, key_head), p.size) + bias_of(p, h, t, j), top, total) *
             dot(dout, head_of<T>(p.v, b, j, key_head), p.size);
  }
  delta = reduce_warp(delta, Sum());
  if (lane == 0) g.delta[index] = delta;
  float sums[C] = {};
  for (std::int64_t first = seen.begin; first < seen.end; first += kWarp) {
    const std::int64_t j = first + lane;
    float slope = 0;
    if (j < seen.end) {
      const float weight =
          weight_of(p, dot(q, head_of<T>(p.k, b, j, key_head), p.size) + bias_of(p, h, t, j), top, total);
      slope = weight * (dot(dout, head_of<T>(p.v, b, j, key_head), p.size) - delta) * p.scale;
    }
    const int count = static_cast<int>(smaller(kWarp, seen.end - first));
    for (int i = 0; i < count; ++i) {
      const float w = __shfl_sync(0xffffffffU, slope, i);
      const T* k = head_of<T>(p.k, b, first + i, key_head);
#pragma unroll
      for (int c = 0; c < C; ++c) {
        if (c * kWarp + lane < p.size) sums[c] += w * to_float(k[c * kWarp + lane]);
      }
    }
  }
  T* dq = head_of<T>(g.dq, b, t, h);
#pragma unroll
  for (int c = 0; c < C; ++c) {
    if (c * kWarp + lane < p.size) dq[c * kWarp + lane] = from_float<T>(sums[c]);
  }
}

/// dk and dv, a warp per key: the heads of its group in order, the queries that see it in order.
template <class T, int C>
__global__ void __launch_bounds__(kWarps* kWarp) key_grad_kernel(AttentionGradParams g) {
  extern __shared__ float kept[];
  const AttentionParams& p = g.forward;
  const int lane = threadIdx.x % kWarp;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (index >= p.batch * p.key_heads * p.keys) return;
  const std::int64_t j = index % p.keys;
  const std::int64_t key_head = index / p.keys % p.key_heads;
  const std::int64_t b = index / p.keys / p.key_heads;
  float* k = kept + threadIdx.x / kWarp * 2 * p.size;
  float* v = k + p.size;
  keep_head(head_of<T>(p.k, b, j, key_head), k, p.size);
  keep_head(head_of<T>(p.v, b, j, key_head), v, p.size);
  const Interval seen = queries_of(p, b, j);
  const std::int64_t group = p.heads / p.key_heads;
  float to_k[C] = {};
  float to_v[C] = {};
  for (std::int64_t h = key_head * group; h < (key_head + 1) * group; ++h) {
    const std::int64_t row = (b * p.heads + h) * p.queries;
    for (std::int64_t first = seen.begin; first < seen.end; first += kWarp) {
      const std::int64_t t = first + lane;
      float weight = 0;
      float slope = 0;
      if (t < seen.end) {
        weight = weight_of(p, dot(k, head_of<T>(p.q, b, t, h), p.size) + bias_of(p, h, t, j), p.top[row + t],
                           p.total[row + t]);
        slope = weight * (dot(v, head_of<T>(g.dout, b, t, h), p.size) - g.delta[row + t]) * p.scale;
      }
      const int count = static_cast<int>(smaller(kWarp, seen.end - first));
      for (int i = 0; i < count; ++i) {
        const float w = __shfl_sync(0xffffffffU, weight, i);
        const float s = __shfl_sync(0xffffffffU, slope, i);
        const T* q = head_of<T>(p.q, b, first + i, h);
        const T* dout = head_of<T>(g.dout, b, first + i, h);
#pragma unroll
        for (int c = 0; c < C; ++c) {
          if (c * kWarp + lane >= p.size) continue;
          to_v[c] += w * to_float(dout[c * kWarp + lane]);
          to_k[c] += s * to_float(q[c * kWarp + lane]);
        }
      }
    }
  }
  T* dk = head_of<T>(g.dk, b, j, key_head);
  T* dv = head_of<T>(g.dv, b, j, key_head);
#pragma unroll
  for (int c = 0; c < C; ++c) {
    if (c * kWarp + lane >= p.size) continue;
    dk[c * kWarp + lane] = from_float<T>(to_k[c]);
    dv[c * kWarp + lane] = from_float<T>(to_v[c]);
  }
}

__global__ void keep_statistics(const float* stats, float* top, float* total, std::int64_t rows) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= rows) return;
  top[i] = stats[i];
  total[i] = -1;
}

__global__ void join_statistics(const float* top, const float* total, float* stats, std::int64_t rows,
                                float scale) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < rows) stats[i] = total[i] < 0 ? top[i] : scale * top[i] + logf(total[i]);
}

/// Calls body.operator()<C>() with enough elements a lane for heads of `size`.
template <class F>
cudaError_t with_chunks(std::int64_t size, F&& body) {
  if (size <= 2 * kWarp) return body.template operator()<2>();
  if (size <= 4 * kWarp) return body.template operator()<4>();
  if (size <= kMaxHeadSize) return body.template operator()<12>();
  return cudaErrorInvalidValue;
}

std::size_t kept_bytes(const AttentionParams& p, int heads) {
  return sizeof(float) * kWarps * static_cast<std::size_t>(heads * p.size);
}

}  // namespace

cudaError_t launch_attention(const AttentionParams& params, Type type, cudaStream_t stream) {
  const unsigned grid = grid_of(params.batch * params.heads * params.queries, kWarps);
  return dispatch(type, [&]<class T>() {
    return with_chunks(params.size, [&]<int C>() {
      attention_kernel<T, C><<<grid, kWarps * kWarp, kept_bytes(params, 1), stream>>>(params);
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_keep_statistics(const float* stats, float* top, float* total, std::int64_t rows,
                                   cudaStream_t stream) {
  keep_statistics<<<grid_of(rows, 256), 256, 0, stream>>>(stats, top, total, rows);
  return cudaGetLastError();
}

cudaError_t launch_join_statistics(const float* top, const float* total, float* stats, std::int64_t rows,
                                   float scale, cudaStream_t stream) {
  join_statistics<<<grid_of(rows, 256), 256, 0, stream>>>(top, total, stats, rows, scale);
  return cudaGetLastError();
}

cudaError_t launch_attention_grad(const AttentionGradParams& params, Type type, cudaStream_t stream) {
  const AttentionParams& p = params.forward;
  return dispatch(type, [&]<class T>() {
    return with_chunks(p.size, [&]<int C>() {
      query_grad_kernel<T, C>
          <<<grid_of(p.batch * p.heads * p.queries, kWarps), kWarps * kWarp, kept_bytes(p, 2), stream>>>(
              params);
      const cudaError_t error = cudaGetLastError();
      if (error != cudaSuccess || p.keys == 0) return error;
      key_grad_kernel<T, C>
          <<<grid_of(p.batch * p.key_heads * p.keys, kWarps), kWarps * kWarp, kept_bytes(p, 2), stream>>>(
              params);
      return cudaGetLastError();
    });
  });
}

}  // namespace candela::cuda
