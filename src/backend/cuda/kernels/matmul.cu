#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/matmul.h"

namespace candela::cuda {
namespace {

constexpr int kTile = 64;   // rows and columns of a block
constexpr int kDepth = 16;  // of a step
constexpr int kThreads = 256;
constexpr int kEach = 4;         // rows and columns of a thread
constexpr int kFlushSteps = 16;  // steps whose products are summed before they join the total

__device__ float load(Type type, const void* data, std::int64_t at) {
  switch (type) {
    case Type::F32:
      return static_cast<const float*>(data)[at];
    case Type::BF16:
      return to_float(static_cast<const __nv_bfloat16*>(data)[at]);
    default:
      return to_float(static_cast<const __half*>(data)[at]);
  }
}

__device__ void store(Type type, void* data, std::int64_t at, float value) {
  switch (type) {
    case Type::F32:
      static_cast<float*>(data)[at] = value;
      break;
    case Type::BF16:
      static_cast<__nv_bfloat16*>(data)[at] = from_float<__nv_bfloat16>(value);
      break;
    default:
      static_cast<__half*>(data)[at] = from_float<__half>(value);
  }
}

/// A tile of 64 x 64 a block, 4 x 4 a thread; a and b pass through shared memory as f32. Which dimension of
/// an operand lies side by side decides how its tile is read.
__global__ void __launch_bounds__(kThreads) matmul_kernel(MatmulParams p) {
  __shared__ float a_tile[kDepth][kTile + 4];
  __shared__ float b_tile[kDepth][kTile + 4];
  std::int64_t offsets[3] = {};
  std::int64_t index = blockIdx.z;
  for (int d = p.batch_rank - 1; d >= 0; --d) {
    for (int n = 0; n < 3; ++n) offsets[n] += index % p.batch_shape[d] * p.batch_strides[n][d];
    index /= p.batch_shape[d];
  }
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.y) * kTile;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int row = static_cast<int>(threadIdx.x) / (kTile / kEach) * kEach;
  const int column = static_cast<int>(threadIdx.x) % (kTile / kEach) * kEach;
  const bool a_along_k = p.a.column_stride == 1;
  const bool b_along_k = p.b.row_stride == 1 && p.b.column_stride != 1;
  float total[kEach][kEach] = {};
  float sums[kEach][kEach] = {};
  int steps = 0;
  for (std::int64_t depth = 0; depth < p.a.columns; depth += kDepth) {
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int k = a_along_k ? i % kDepth : i / kTile;
      const int m = a_along_k ? i / kDepth : i % kTile;
      const bool inside = first_row + m < p.a.rows && depth + k < p.a.columns;
      a_tile[k][m] =
          inside ? load(p.a.type, p.a.data,
                        offsets[0] + (first_row + m) * p.a.row_stride + (depth + k) * p.a.column_stride)
                 : 0;
    }
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int k = b_along_k ? i % kDepth : i / kTile;
      const int n = b_along_k ? i / kDepth : i % kTile;
      const bool inside = first_column + n < p.b.columns && depth + k < p.b.rows;
      b_tile[k][n] =
          inside ? load(p.b.type, p.b.data,
                        offsets[1] + (depth + k) * p.b.row_stride + (first_column + n) * p.b.column_stride)
                 : 0;
    }
    __syncthreads();
    const int limit = static_cast<int>(p.a.columns - depth < kDepth ? p.a.columns - depth : kDepth);
    // Only what exists: padding would make NaN of an infinite partner.
    for (int k = 0; k < limit; ++k) {
      float left[kEach];
      float right[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        left[i] = a_tile[k][row + i];
        right[i] = b_tile[k][column + i];
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) sums[i][j] += left[i] * right[j];
      }
    }
    __syncthreads();
    if (++steps % kFlushSteps == 0) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) {
          total[i][j] += sums[i][j];
          sums[i][j] = 0;
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const std::int64_t m = first_row + row + i;
      const std::int64_t n = first_column + column + j;
      if (m >= p.out.rows || n >= p.out.columns) continue;
      const std::int64_t at = offsets[2] + m * p.out.row_stride + n * p.out.column_stride;
      float value = p.alpha * (total[i][j] + sums[i][j]);
      if (p.beta != 0) value += p.beta * load(p.out.type, p.out.data, at);
      if (p.bias != nullptr) value += load(p.bias_type, p.bias, n * p.bias_step);
      store(p.out.type, p.out.data, at, value);
    }
  }
}

}  // namespace

cudaError_t launch_matmul(const MatmulParams& params, cudaStream_t stream) {
  // The grid's depth is limited: batches come in several launches.
  constexpr std::int64_t kDeepest = 65535;
  if (params.batch > kDeepest || ceil_div(params.out.rows, kTile) > kDeepest)
    return cudaErrorInvalidConfiguration;
  const dim3 grid(grid_of(params.out.columns, kTile), grid_of(params.out.rows, kTile),
                  static_cast<unsigned>(params.batch));
  matmul_kernel<<<grid, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace candela::cuda
