#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/kernels/mma.cuh"
#include "backend/cuda/kernels/visible.cuh"

namespace candela::cuda {
namespace {

using bf16 = __nv_bfloat16;

constexpr int kThreads = 128;  // 4 warps of 16 rows
constexpr int kRows = 64;      // queries (or keys) of a block
constexpr float kLog2E = 1.44269504088896340736F;

/// Elements of a row in shared memory: 16 bytes of padding keep ldmatrix free of conflicts.
template <int D>
inline constexpr int kPitch = D + 8;

/// `lines` rows of heads on their way to shared memory; zeros beyond `end` and beyond the head.
template <int D>
__device__ void fetch(bf16* tile, const HeadsParams& x, std::int64_t b, std::int64_t h, std::int64_t first,
                      std::int64_t end, std::int64_t size, int lines) {
  constexpr int kUnits = D / 8;
  for (int unit = threadIdx.x; unit < lines * kUnits; unit += kThreads) {
    const int line = unit / kUnits;
    const int at = unit % kUnits * 8;
    const bool inside = first + line < end && at < size;
    const bf16* from = inside ? head_of<bf16>(x, b, first + line, h) + at : static_cast<const bf16*>(x.data);
    copy_async(tile + line * kPitch<D> + at, from, inside);
  }
}

/// a [16 x 16] of a row-major tile, from row `row` and column k.
template <int D>
__device__ void load_left(unsigned (&a)[4], const bf16* tile, int row, int k) {
  const int lane = threadIdx.x % kWarp;
  load_blocks(a, tile + (row + lane % 16) * kPitch<D> + k + lane / 16 * 8);
}

/// b [16 x 16] = tile^T: columns of the product are rows of the tile from `row`, depth from k. Two of
/// multiply_add.
template <int D>
__device__ void load_right(unsigned (&b)[4], const bf16* tile, int row, int k) {
  const int lane = threadIdx.x % kWarp;
  load_blocks(b, tile + (row + lane / 16 * 8 + lane % 8) * kPitch<D> + k + lane / 8 % 2 * 8);
}

/// b [16 x 16] = tile: depth is rows of the tile from `row`, columns from `column`.
template <int D>
__device__ void load_right_as_is(unsigned (&b)[4], const bf16* tile, int row, int column) {
  const int lane = threadIdx.x % kWarp;
  load_blocks_turned(b, tile + (row + lane % 16) * kPitch<D> + column + lane / 16 * 8);
}

__device__ void multiply_both(float (&c0)[4], float (&c1)[4], const unsigned (&a)[4],
                              const unsigned (&b)[4]) {
  multiply_add(c0, a, {b[0], b[1]});
  multiply_add(c1, a, {b[2], b[3]});
}

__device__ unsigned pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

/// Two neighbouring tiles of 8 columns of a result as the left operand of the next product.
__device__ void as_left(unsigned (&a)[4], const float (&c0)[4], const float (&c1)[4]) {
  a[0] = pack(c0[0], c0[1]);
  a[1] = pack(c0[2], c0[3]);
  a[2] = pack(c1[0], c1[1]);
  a[3] = pack(c1[2], c1[3]);
}

/// c [16 x 8 N] = left[16 rows from `row`, D] right[8 N rows, D]^T.
template <int D, int N>
__device__ void multiply_turned(float (&c)[N][4], const bf16* left, int row, const bf16* right) {
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    unsigned a[4];
    load_left<D>(a, left, row, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      unsigned b[4];
      load_right<D>(b, right, n * 8, k);
      multiply_both(c[n], c[n + 1], a, b);
    }
  }
}

/// c [16 x D] += left[16 x 8 N] (results of a product) right[8 N rows, D].
template <int D, int N>
__device__ void accumulate(float (&c)[D / 8][4], const float (&left)[N][4], const bf16* right) {
#pragma unroll
  for (int k = 0; k < N; k += 2) {
    unsigned a[4];
    as_left(a, left[k], left[k + 1]);
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      unsigned b[4];
      load_right_as_is<D>(b, right, k * 8, n * 8);
      multiply_both(c[n], c[n + 1], a, b);
    }
  }
}

template <int D>
__device__ void store_rows(const HeadsParams& x, std::int64_t b, std::int64_t h, std::int64_t first,
                           std::int64_t end, std::int64_t size, const float (&c)[D / 8][4], float scale0,
                           float scale1) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t t = first + lane / 4 + half * 8;
    if (t >= end) continue;
    bf16* to = head_of<bf16>(x, b, t, h) + lane % 4 * 2;
    const float scale = half == 0 ? scale0 : scale1;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      if (n * 8 < size)
        *reinterpret_cast<unsigned*>(to + n * 8) = pack(c[n][half * 2] * scale, c[n][half * 2 + 1] * scale);
    }
  }
}

__device__ float quad_max(float x) {
  x = Max()(x, __shfl_xor_sync(0xffffffffU, x, 1));
  return Max()(x, __shfl_xor_sync(0xffffffffU, x, 2));
}
__device__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffU, x, 1);
  return x + __shfl_xor_sync(0xffffffffU, x, 2);
}

__device__ std::int64_t index_of(const AttentionParams& p, std::int64_t b, std::int64_t h, std::int64_t t) {
  return (b * p.heads + h) * p.queries + t;
}

/// Keys that any of the queries [first, last] sees: what they see moves on with them.
__device__ Interval keys_of_all(const AttentionParams& p, std::int64_t b, std::int64_t first,
                                std::int64_t last) {
  return {keys_of(p, b, first).begin, keys_of(p, b, last).end};
}

/// 64 queries of a head a block, 64 keys at a time.
template <int D>
__global__ void __launch_bounds__(kThreads) flash_kernel(AttentionParams p) {
  extern __shared__ __align__(16) bf16 shared[];
  constexpr int kTile = kRows * kPitch<D>;
  bf16* q = shared;
  bf16* keys = q + kTile;           // two stages
  bf16* values = keys + 2 * kTile;  // two stages
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  // The last queries see the most keys: they begin first.
  const std::int64_t first = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * kRows;
  const std::int64_t h = blockIdx.y;
  const std::int64_t b = blockIdx.z;
  const std::int64_t key_head = h / (p.heads / p.key_heads);
  Interval seen[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t t = first + warp * 16 + lane / 4 + half * 8;
    seen[half] = t < p.queries ? keys_of(p, b, t) : Interval{0, 0};
  }
  const Interval all = keys_of_all(p, b, first, smaller(first + kRows, p.queries) - 1);
  const std::int64_t begin = all.begin / kRows * kRows;
  const int tiles = all.begin < all.end ? static_cast<int>((all.end - begin + kRows - 1) / kRows) : 0;
  const auto start = [&](int tile) {
    if (tile < tiles) {
      const std::int64_t at = begin + static_cast<std::int64_t>(tile) * kRows;
      fetch<D>(keys + tile % 2 * kTile, p.k, b, key_head, at, p.keys, p.size, kRows);
      fetch<D>(values + tile % 2 * kTile, p.v, b, key_head, at, p.keys, p.size, kRows);
    }
    commit_copies();
  };
  fetch<D>(q, p.q, b, h, first, p.queries, p.size, kRows);
  start(0);
  const float factor = p.scale * kLog2E;
  float top[2] = {-INFINITY, -INFINITY};
  float total[2] = {};
  float sums[D / 8][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    start(tile + 1);
    wait_copies<1>();
    __syncthreads();
    float scores[kRows / 8][4] = {};
    multiply_turned<D>(scores, q, warp * 16, keys + tile % 2 * kTile);
    const std::int64_t at = begin + static_cast<std::int64_t>(tile) * kRows;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool whole = seen[half].begin <= at && seen[half].end >= at + kRows;
      float most = -INFINITY;
#pragma unroll
      for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const std::int64_t j = at + n * 8 + lane % 4 * 2 + e;
          float& score = scores[n][half * 2 + e];
          if (!whole && (j < seen[half].begin || j >= seen[half].end)) score = -INFINITY;
          most = Max()(most, score);
        }
      }
      const float before = top[half];
      top[half] = Max()(before, quad_max(most));
      const float shift = top[half] == -INFINITY ? 0.0F : top[half];
      const float decay = before == top[half] ? 1.0F : exp2f(factor * (before - shift));
      total[half] *= decay;
#pragma unroll
      for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = scores[n][half * 2 + e];
          score = exp2f(factor * (score - shift));
          total[half] += score;
        }
      }
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        sums[n][half * 2] *= decay;
        sums[n][half * 2 + 1] *= decay;
      }
    }
    accumulate<D>(sums, scores, values + tile % 2 * kTile);
    __syncthreads();
  }
  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    total[half] = quad_sum(total[half]);
    inverse[half] = seen[half].begin < seen[half].end ? 1.0F / total[half] : 0.0F;
    const std::int64_t t = first + warp * 16 + lane / 4 + half * 8;
    if (p.top != nullptr && lane % 4 == 0 && t < p.queries) {
      p.top[index_of(p, b, h, t)] = top[half];
      p.total[index_of(p, b, h, t)] = total[half];
    }
  }
  store_rows<D>(p.out, b, h, first + warp * 16, p.queries, p.size, sums, inverse[0], inverse[1]);
}

/// delta = sum over d of dout out, a warp per row.
__global__ void delta_kernel(AttentionGradParams g) {
  const AttentionParams& p = g.forward;
  const int lane = threadIdx.x % kWarp;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (index >= p.batch * p.heads * p.queries) return;
  const std::int64_t t = index % p.queries;
  const std::int64_t h = index / p.queries % p.heads;
  const std::int64_t b = index / p.queries / p.heads;
  const bf16* out = head_of<bf16>(p.out, b, t, h);
  const bf16* dout = head_of<bf16>(g.dout, b, t, h);
  float sum = 0;
  for (std::int64_t d = lane * 2; d < p.size; d += 2 * kWarp)
    sum += to_float(out[d]) * to_float(dout[d]) + to_float(out[d + 1]) * to_float(dout[d + 1]);
  sum = reduce_warp(sum, Sum());
  if (lane == 0) g.delta[index] = sum;
}

/// What the gradient needs of a query: weight = exp2(factor (product - top)) inverse.
struct Statistics {
  float top, inverse, delta;
};

__device__ Statistics statistics_of(const AttentionGradParams& g, std::int64_t index) {
  const AttentionParams& p = g.forward;
  const float total = p.total[index];
  // A negative total marks the statistic of cuDNN; a row that sees nothing has 0.
  if (total < 0) return {p.top[index] / p.scale, 1, g.delta[index]};
  return {p.top[index], total == 0 ? 0 : 1 / total, g.delta[index]};
}

/// dq of 64 queries of a head, kDepth keys at a time.
template <int D, int kDepth>
__global__ void __launch_bounds__(kThreads) flash_query_grad_kernel(AttentionGradParams g) {
  extern __shared__ __align__(16) bf16 shared[];
  const AttentionParams& p = g.forward;
  constexpr int kTile = kDepth * kPitch<D>;
  bf16* q = shared;
  bf16* dout = q + kRows * kPitch<D>;
  bf16* keys = dout + kRows * kPitch<D>;  // two stages
  bf16* values = keys + 2 * kTile;        // two stages
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const std::int64_t first = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * kRows;
  const std::int64_t h = blockIdx.y;
  const std::int64_t b = blockIdx.z;
  const std::int64_t key_head = h / (p.heads / p.key_heads);
  Interval seen[2];
  Statistics of[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t t = first + warp * 16 + lane / 4 + half * 8;
    seen[half] = t < p.queries ? keys_of(p, b, t) : Interval{0, 0};
    of[half] = t < p.queries ? statistics_of(g, index_of(p, b, h, t)) : Statistics{0, 0, 0};
  }
  const Interval all = keys_of_all(p, b, first, smaller(first + kRows, p.queries) - 1);
  const std::int64_t begin = all.begin / kDepth * kDepth;
  const int tiles = all.begin < all.end ? static_cast<int>((all.end - begin + kDepth - 1) / kDepth) : 0;
  const auto start = [&](int tile) {
    if (tile < tiles) {
      const std::int64_t at = begin + static_cast<std::int64_t>(tile) * kDepth;
      fetch<D>(keys + tile % 2 * kTile, p.k, b, key_head, at, p.keys, p.size, kDepth);
      fetch<D>(values + tile % 2 * kTile, p.v, b, key_head, at, p.keys, p.size, kDepth);
    }
    commit_copies();
  };
  fetch<D>(q, p.q, b, h, first, p.queries, p.size, kRows);
  fetch<D>(dout, g.dout, b, h, first, p.queries, p.size, kRows);
  start(0);
  const float factor = p.scale * kLog2E;
  float sums[D / 8][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    start(tile + 1);
    wait_copies<1>();
    __syncthreads();
    float scores[kDepth / 8][4] = {};
    float slopes[kDepth / 8][4] = {};
    multiply_turned<D>(scores, q, warp * 16, keys + tile % 2 * kTile);
    multiply_turned<D>(slopes, dout, warp * 16, values + tile % 2 * kTile);
    const std::int64_t at = begin + static_cast<std::int64_t>(tile) * kDepth;
#pragma unroll
    for (int n = 0; n < kDepth / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int half = e / 2;
        const std::int64_t j = at + n * 8 + lane % 4 * 2 + e % 2;
        const bool visible = j >= seen[half].begin && j < seen[half].end;
        const float weight = exp2f(factor * (scores[n][e] - of[half].top)) * of[half].inverse;
        slopes[n][e] = visible ? weight * (slopes[n][e] - of[half].delta) * p.scale : 0.0F;
      }
    }
    accumulate<D>(sums, slopes, keys + tile % 2 * kTile);
    __syncthreads();
  }
  store_rows<D>(g.dq, b, h, first + warp * 16, p.queries, p.size, sums, 1, 1);
}

/// dk and dv of 64 keys: the heads of the group in order, kDepth queries at a time. Scores are kept turned:
/// keys are the rows.
template <int D, int kDepth>
__global__ void __launch_bounds__(kThreads) flash_key_grad_kernel(AttentionGradParams g) {
  extern __shared__ __align__(16) bf16 shared[];
  __shared__ Statistics of[2][kDepth];
  const AttentionParams& p = g.forward;
  constexpr int kTile = kDepth * kPitch<D>;
  bf16* keys = shared;
  bf16* values = keys + kRows * kPitch<D>;
  bf16* queries = values + kRows * kPitch<D>;  // two stages
  bf16* douts = queries + 2 * kTile;           // two stages
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kRows;
  const std::int64_t key_head = blockIdx.y;
  const std::int64_t b = blockIdx.z;
  const std::int64_t group = p.heads / p.key_heads;
  Interval seen[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t j = first + warp * 16 + lane / 4 + half * 8;
    seen[half] = j < p.keys ? queries_of(p, b, j) : Interval{0, 0};
  }
  const Interval all{queries_of(p, b, first).begin, queries_of(p, b, smaller(first + kRows, p.keys) - 1).end};
  const std::int64_t begin = all.begin / kDepth * kDepth;
  const int per_head = all.begin < all.end ? static_cast<int>((all.end - begin + kDepth - 1) / kDepth) : 0;
  const int tiles = per_head * static_cast<int>(group);
  const auto start = [&](int tile) {
    if (tile < tiles) {
      const std::int64_t h = key_head * group + tile / per_head;
      const std::int64_t at = begin + static_cast<std::int64_t>(tile % per_head) * kDepth;
      fetch<D>(queries + tile % 2 * kTile, p.q, b, h, at, p.queries, p.size, kDepth);
      fetch<D>(douts + tile % 2 * kTile, g.dout, b, h, at, p.queries, p.size, kDepth);
      for (int i = threadIdx.x; i < kDepth; i += kThreads)
        of[tile % 2][i] =
            at + i < p.queries ? statistics_of(g, index_of(p, b, h, at + i)) : Statistics{0, 0, 0};
    }
    commit_copies();
  };
  fetch<D>(keys, p.k, b, key_head, first, p.keys, p.size, kRows);
  fetch<D>(values, p.v, b, key_head, first, p.keys, p.size, kRows);
  start(0);
  const float factor = p.scale * kLog2E;
  float to_k[D / 8][4] = {};
  float to_v[D / 8][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    start(tile + 1);
    wait_copies<1>();
    __syncthreads();
    const bf16* q = queries + tile % 2 * kTile;
    const bf16* dout = douts + tile % 2 * kTile;
    float weights[kDepth / 8][4] = {};
    float slopes[kDepth / 8][4] = {};
    multiply_turned<D>(weights, keys, warp * 16, q);
    multiply_turned<D>(slopes, values, warp * 16, dout);
    const std::int64_t at = begin + static_cast<std::int64_t>(tile % per_head) * kDepth;
#pragma unroll
    for (int n = 0; n < kDepth / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = n * 8 + lane % 4 * 2 + e % 2;
        const std::int64_t t = at + column;
        const Statistics& row = of[tile % 2][column];
        const bool visible = t >= seen[e / 2].begin && t < seen[e / 2].end;
        const float weight = visible ? exp2f(factor * (weights[n][e] - row.top)) * row.inverse : 0.0F;
        slopes[n][e] = visible ? weight * (slopes[n][e] - row.delta) * p.scale : 0.0F;
        weights[n][e] = weight;
      }
    }
    accumulate<D>(to_v, weights, dout);
    accumulate<D>(to_k, slopes, q);
    __syncthreads();
  }
  store_rows<D>(g.dk, b, key_head, first + warp * 16, p.keys, p.size, to_k, 1, 1);
  store_rows<D>(g.dv, b, key_head, first + warp * 16, p.keys, p.size, to_v, 1, 1);
}

template <class K, class P>
cudaError_t launch_tiles(K kernel, const P& params, std::int64_t rows, std::int64_t heads, std::int64_t batch,
                         int lines, int pitch, cudaStream_t stream) {
  const std::size_t bytes = sizeof(bf16) * static_cast<std::size_t>(lines) * static_cast<std::size_t>(pitch);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) return error;
  const dim3 grid(grid_of(rows, kRows), static_cast<unsigned>(heads), static_cast<unsigned>(batch));
  kernel<<<grid, kThreads, bytes, stream>>>(params);
  return cudaGetLastError();
}

template <int D, int kDepth>
cudaError_t launch_grad(const AttentionGradParams& params, cudaStream_t stream) {
  const AttentionParams& p = params.forward;
  const std::int64_t rows = p.batch * p.heads * p.queries;
  delta_kernel<<<grid_of(rows, kThreads / kWarp), kThreads, 0, stream>>>(params);
  cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  constexpr int kLines = 2 * kRows + 4 * kDepth;
  error = launch_tiles(flash_query_grad_kernel<D, kDepth>, params, p.queries, p.heads, p.batch, kLines,
                       kPitch<D>, stream);
  if (error != cudaSuccess) return error;
  return launch_tiles(flash_key_grad_kernel<D, kDepth>, params, p.keys, p.key_heads, p.batch, kLines,
                      kPitch<D>, stream);
}

}  // namespace

cudaError_t launch_flash(const AttentionParams& p, cudaStream_t stream) {
  constexpr int kLines = 5 * kRows;
  if (p.size <= 64)
    return launch_tiles(flash_kernel<64>, p, p.queries, p.heads, p.batch, kLines, kPitch<64>, stream);
  return launch_tiles(flash_kernel<128>, p, p.queries, p.heads, p.batch, kLines, kPitch<128>, stream);
}

cudaError_t launch_flash_grad(const AttentionGradParams& params, cudaStream_t stream) {
  return params.forward.size <= 64 ? launch_grad<64, 64>(params, stream)
                                   : launch_grad<128, 32>(params, stream);
}

}  // namespace candela::cuda
