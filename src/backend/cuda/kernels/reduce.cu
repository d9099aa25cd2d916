#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/reduce.h"

namespace candela::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 32;
constexpr int kLines = kThreads / kColumns;

__device__ float first_of(Reduction op) {
  return op == Reduction::Max ? -INFINITY : (op == Reduction::Min ? INFINITY : 0.0F);
}
__device__ float join(Reduction op, float a, float b) {
  return op == Reduction::Max ? Max()(a, b) : (op == Reduction::Min ? Min()(a, b) : a + b);
}

__device__ std::int64_t offset_of(int rank, const std::int64_t* shape, const std::int64_t* strides,
                                  std::int64_t at) {
  std::int64_t offset = 0;
  for (int d = rank - 1; d > 0; --d) {
    offset += at % shape[d] * strides[d];
    at /= shape[d];
  }
  return rank > 0 ? offset + at * strides[0] : 0;
}

template <class T>
__device__ void write_result(const ReduceParams& p, std::int64_t kept, float value) {
  static_cast<T*>(p.out)[offset_of(p.kept_rank, p.kept_shape, p.kept_out, kept)] =
      from_float<T>(value * p.scale);
}

/// Several sums a thread, so that long runs of equal addends lose no digits.
template <class T>
__device__ float reduce_strided(const ReduceParams& p, const T* x, std::int64_t first, std::int64_t last,
                                std::int64_t step) {
  float sums[4];
  for (float& sum : sums) sum = first_of(p.op);
  std::int64_t i = first;
  for (; i + 3 * step < last; i += 4 * step) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float value = to_float(x[offset_of(p.reduced_rank, p.reduced_shape, p.reduced_x, i + k * step)]);
      sums[k] = join(p.op, sums[k], p.op == Reduction::SumSquares ? value * value : value);
    }
  }
  for (; i < last; i += step) {
    const float value = to_float(x[offset_of(p.reduced_rank, p.reduced_shape, p.reduced_x, i)]);
    sums[0] = join(p.op, sums[0], p.op == Reduction::SumSquares ? value * value : value);
  }
  return join(p.op, join(p.op, sums[0], sums[1]), join(p.op, sums[2], sums[3]));
}

/// One block for a kept element and part: neighbours in the reduced dimension lie side by side.
template <class T>
__global__ void reduce_rows(ReduceParams p, std::int64_t parts, std::int64_t per_part) {
  __shared__ float slots[32];
  const std::int64_t kept = blockIdx.x;
  const T* x = static_cast<const T*>(p.x) + offset_of(p.kept_rank, p.kept_shape, p.kept_x, kept);
  const std::int64_t first = blockIdx.y * per_part;
  const std::int64_t last = first + per_part < p.reduced ? first + per_part : p.reduced;
  float value = reduce_strided(p, x, first + threadIdx.x, last, kThreads);
  value = reduce_row(
      value, [&](float a, float b) { return join(p.op, a, b); }, slots);
  if (threadIdx.x != 0) return;
  if (parts == 1) {
    write_result<T>(p, kept, value);
  } else {
    p.partial[blockIdx.y * p.kept + kept] = value;
  }
}

/// 32 kept elements a block: they lie side by side.
template <class T>
__global__ void reduce_columns(ReduceParams p, std::int64_t parts, std::int64_t per_part) {
  __shared__ float lines[kLines][kColumns];
  const std::int64_t kept = static_cast<std::int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const std::int64_t first = blockIdx.y * per_part;
  const std::int64_t last = first + per_part < p.reduced ? first + per_part : p.reduced;
  float value = first_of(p.op);
  if (kept < p.kept) {
    const T* x = static_cast<const T*>(p.x) + offset_of(p.kept_rank, p.kept_shape, p.kept_x, kept);
    value = reduce_strided(p, x, first + threadIdx.y, last, kLines);
  }
  lines[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  if (threadIdx.y != 0 || kept >= p.kept) return;
  for (int i = 1; i < kLines; ++i) value = join(p.op, value, lines[i][threadIdx.x]);
  if (parts == 1) {
    write_result<T>(p, kept, value);
  } else {
    p.partial[blockIdx.y * p.kept + kept] = value;
  }
}

/// Joins the parts in order: the same bits every time.
template <class T>
__global__ void join_parts(ReduceParams p, std::int64_t parts) {
  const std::int64_t kept = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (kept >= p.kept) return;
  float value = p.partial[kept];
  for (std::int64_t part = 1; part < parts; ++part)
    value = join(p.op, value, p.partial[part * p.kept + kept]);
  write_result<T>(p, kept, value);
}

/// Whether the kept elements lie side by side and the reduced ones do not.
bool by_columns(const ReduceParams& p) {
  const bool kept_unit = p.kept_rank > 0 && p.kept_x[p.kept_rank - 1] == 1;
  const bool reduced_unit = p.reduced_rank == 0 || p.reduced_x[p.reduced_rank - 1] == 1;
  return p.kept > 1 && (p.reduced < kWarp || (kept_unit && !reduced_unit));
}

std::int64_t kept_blocks(const ReduceParams& p) {
  return by_columns(p) ? ceil_div(p.kept, kColumns) : p.kept;
}

struct Candidate {
  float value;
  std::int64_t index;
};

__device__ bool before(const Candidate& a, const Candidate& b) {
  const bool a_nan = isnan(a.value);
  const bool b_nan = isnan(b.value);
  if (a_nan != b_nan) return a_nan;
  if (!a_nan && a.value != b.value) return a.value > b.value;
  return a.index < b.index;
}

template <class T>
__global__ void argmax_kernel(RowParams<2> p) {
  __shared__ Candidate slots[kThreads / kWarp];
  const T* x = row_of<T>(p, blockIdx.x, 0);
  Candidate best{-INFINITY, INT64_MAX};
  for (std::int64_t i = threadIdx.x; i < p.length; i += kThreads) {
    const Candidate next{to_float(x[i * p.step[0]]), i};
    if (before(next, best)) best = next;
  }
  const auto join_warp = [&](int width) {
    for (int step = width / 2; step > 0; step /= 2) {
      const Candidate other{__shfl_xor_sync(0xffffffffU, best.value, step),
                            __shfl_xor_sync(0xffffffffU, best.index, step)};
      if (before(other, best)) best = other;
    }
  };
  join_warp(kWarp);
  if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = best;
  __syncthreads();
  best = slots[threadIdx.x % (kThreads / kWarp)];
  join_warp(kThreads / kWarp);
  if (threadIdx.x == 0) *row_of<std::int64_t>(p, blockIdx.x, 1) = best.index;
}

}  // namespace

std::int64_t reduce_parts(const ReduceParams& params) {
  constexpr std::int64_t kBlocks = 528;  // four for each of 132 multiprocessors
  constexpr std::int64_t kFewest = 512;  // elements of a part
  return std::clamp<std::int64_t>(kBlocks / std::max<std::int64_t>(kept_blocks(params), 1), 1,
                                  std::max<std::int64_t>(params.reduced / kFewest, 1));
}

cudaError_t launch_reduce(const ReduceParams& params, Type type, cudaStream_t stream) {
  const std::int64_t parts = reduce_parts(params);
  const std::int64_t per_part = ceil_div(params.reduced, parts);
  const dim3 grid(static_cast<unsigned>(kept_blocks(params)), static_cast<unsigned>(parts));
  return dispatch(type, [&]<class T>() {
    if (by_columns(params)) {
      reduce_columns<T><<<grid, dim3(kColumns, kLines), 0, stream>>>(params, parts, per_part);
    } else {
      reduce_rows<T><<<grid, kThreads, 0, stream>>>(params, parts, per_part);
    }
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess || parts == 1) return error;
    join_parts<T><<<grid_of(params.kept, kThreads), kThreads, 0, stream>>>(params, parts);
    return cudaGetLastError();
  });
}

cudaError_t launch_argmax(const RowParams<2>& rows, Type type, cudaStream_t stream) {
  return dispatch(type, [&]<class T>() {
    argmax_kernel<T><<<static_cast<unsigned>(rows.count), kThreads, 0, stream>>>(rows);
    return cudaGetLastError();
  });
}

}  // namespace candela::cuda
