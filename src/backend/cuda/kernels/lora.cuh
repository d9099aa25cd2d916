#pragma once

#include "backend/cuda/kernels/lora.h"
#include "backend/cuda/kernels/mma.cuh"

/// What the low-rank products of lora.cu and their gradients in lora_grad.cu share.
namespace candela::cuda {

using bf16 = __nv_bfloat16;

constexpr int kTile = 64;  // rows, columns or depth of a tile
// Of 64 elements in shared memory: 16 bytes of padding keep ldmatrix free of conflicts.
constexpr int kPitch = 72;
constexpr int kThreads = 128;  // 4 warps
constexpr int kMultiprocessors = 132;

__device__ inline void write(Type type, void* data, std::int64_t at, float value) {
  if (type == Type::F32) {
    static_cast<float*>(data)[at] = value;
  } else {
    static_cast<bf16*>(data)[at] = from_float<bf16>(value);
  }
}

/// Rows [row, row + kLines) of kWidth (16 to 64) elements on their way to shared memory by kBy threads; zeros
/// beyond `rows` and `columns`.
template <int kWidth, int kLines, int kBy>
__device__ void fetch(bf16* tile, const bf16* from, std::int64_t stride, std::int64_t row, std::int64_t rows,
                      std::int64_t column, std::int64_t columns, int pitch = kPitch) {
  constexpr int kUnits = kWidth / 8;
#pragma unroll
  for (int first = 0; first < kLines * kUnits; first += kBy) {
    const int unit = first + static_cast<int>(threadIdx.x);
    if (kLines * kUnits % kBy != 0 && unit >= kLines * kUnits) break;
    const int line = unit / kUnits;
    const int at = unit % kUnits * 8;
    const bool inside = row + line < rows && column + at < columns;
    copy_async(tile + line * pitch + at, from + (inside ? (row + line) * stride + column + at : 0), inside);
  }
}

/// Leading terms and the others are summed apart: where a sum is infinite or NaN, what the small terms add is
/// NaN.
template <int kTiles>
struct Sums {
  float high[kTiles][4] = {};
  float low[kTiles][4] = {};
  __device__ float total(int tile, int i) const {
    return isfinite(high[tile][i]) ? high[tile][i] + low[tile][i] : high[tile][i];
  }
};

inline std::int64_t column_blocks(const WideParams& wide, int columns) {
  std::int64_t blocks = 0;
  for (int i = 0; i < wide.group_count; ++i) blocks += ceil_div(wide.groups[i].count, columns);
  return blocks;
}

/// Lets a kernel have more shared memory than 48 KiB.
template <class K>
cudaError_t allow_shared(K kernel, std::size_t bytes) {
  return bytes <= (48U << 10U) ? cudaSuccess
                               : cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                      static_cast<int>(bytes));
}

}  // namespace candela::cuda
