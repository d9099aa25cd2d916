#pragma once

#include <type_traits>

#include "backend/cuda/kernels/common.cuh"

/// Rows worked on by the blockDim.x threads of a block's line, blockDim.y rows a block. A unit is V elements:
/// one 16-byte access, or one element where strides or alignment allow no more. Up to K units a thread stay
/// in registers, so that a row is read once; K = 0 reads it again for every pass.
namespace candela::cuda {

/// Units that a thread keeps: what long rows need at least.
inline constexpr int kFewUnits = 4;
/// Rows so few that their latency counts, not the memory's rate: a thread takes one unit.
inline constexpr std::int64_t kFewRows = 264;
inline constexpr int kManyUnits = 8;

/// Calls f(unit, slot) for this thread's units; `slot` is a constant after unrolling where K > 0.
template <int K, class F>
__device__ inline void each_unit(std::int64_t units, F&& f) {
  if constexpr (K > 0) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const std::int64_t i = threadIdx.x + static_cast<std::int64_t>(k) * blockDim.x;
      if (i < units) f(i, k);
    }
  } else {
    for (std::int64_t i = threadIdx.x; i < units; i += blockDim.x) f(i, 0);
  }
}

template <class T, int V>
__device__ inline Pack<T, V> load_unit(const T* row, std::int64_t i, std::int64_t step) {
  if constexpr (V > 1) {
    return reinterpret_cast<const Pack<T, V>*>(row)[i];
  } else {
    return {row[i * step]};
  }
}

template <class T, int V>
__device__ inline void store_unit(T* row, std::int64_t i, std::int64_t step, const Pack<T, V>& values) {
  if constexpr (V > 1) {
    reinterpret_cast<Pack<T, V>*>(row)[i] = values;
  } else {
    row[i * step] = values.v[0];
  }
}

struct RowGrid {
  unsigned grid;
  dim3 block;
};

/// Enough threads that each keeps at most `kept` units; whole warps, and blocks of 128 threads at least.
inline RowGrid row_grid(std::int64_t rows, std::int64_t units, int kept) {
  unsigned threads = kWarp;
  while (threads < 1024 && static_cast<std::int64_t>(threads) * kept < units) threads *= 2;
  const unsigned lines = std::max(1U, 128U / threads);
  return {grid_of(rows, lines), dim3(threads, lines)};
}

/// Calls body.operator()<T, V, K>(grid) with what fits the rows; a thread keeps at most kMost units.
template <int kMost, int N, class F>
cudaError_t launch_rows(const RowParams<N>& rows, Type type, F&& body) {
  return dispatch(type, [&]<class T>() {
    const std::int64_t units = rows.length / kPack<T>;
    if (!rows.packed) {
      body.template operator()<T, 1, 0>(row_grid(rows.count, rows.length, kFewUnits));
    } else if (rows.count <= kFewRows && units <= 1024) {
      body.template operator()<T, kPack<T>, 1>(row_grid(rows.count, units, 1));
    } else if (units <= 1024 * kFewUnits) {
      body.template operator()<T, kPack<T>, kFewUnits>(row_grid(rows.count, units, kFewUnits));
    } else if (kMost > kFewUnits && units <= 1024 * kMost) {
      body.template operator()<T, kPack<T>, kMost>(row_grid(rows.count, units, kMost));
    } else {
      body.template operator()<T, kPack<T>, 0>(row_grid(rows.count, units, kFewUnits));
    }
    return cudaGetLastError();
  });
}

/// The row of this line of the block; not active beyond the last one, though the line takes part in
/// reductions.
struct Line {
  std::int64_t row;
  bool active;
};
__device__ inline Line line_of(std::int64_t count) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  return {row < count ? row : count - 1, row < count};
}

}  // namespace candela::cuda
