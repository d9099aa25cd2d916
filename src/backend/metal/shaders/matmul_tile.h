#ifndef CANDELA_METAL_SHADERS_MATMUL_TILE_H
#define CANDELA_METAL_SHADERS_MATMUL_TILE_H

#include "common.h"

// A threadgroup of four simdgroups computes a kTile x kTile piece of a product; each simdgroup one quarter of
// it, as 4 x 4 matrices of 8 x 8. Operands pass through threadgroup memory as f32, kDepth of the inner
// dimension at a time.
constant constexpr uint kTile = 64;
constant constexpr uint kDepth = 16;
constant constexpr uint kHalfTile = 32;
constant constexpr uint kTileThreads = 128;
/// 16 bytes behind each row: the rows of an 8 x 8 matrix lie in different banks of threadgroup memory.
constant constexpr uint kDepthStride = kDepth + 4;
constant constexpr uint kTileStride = kTile + 4;
/// Both operand tiles while multiplying, the finished tile afterwards.
constant constexpr uint kTileFloats = kTile * kTileStride;

/// The operands may be read four neighbours at a time: their unit dimension and all strides are multiples of
/// four.
constant bool kInFours [[function_constant(0)]];

struct Accumulators {
  simdgroup_float8x8 at[4][4];
};

inline void clear(thread Accumulators& sums) {
  for (uint i = 0; i < 4; ++i) {
    for (uint j = 0; j < 4; ++j) sums.at[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }
}

/// Element (r, c) of the R x C block of x at (row, column), zero outside of rows x columns.
template <class T>
inline float element_or_zero(device const T* x, long row_stride, long column_stride, uint row, uint column,
                             uint rows, uint columns) {
  if (row >= rows || column >= columns) return 0.0f;
  return to_float(x[static_cast<long>(row) * row_stride + static_cast<long>(column) * column_stride]);
}

/// Copies the R x C block of a matrix at (row, column) into `tile`, rows S apart, times `scale`, zero outside
/// of rows x columns. Neighbouring threads read neighbouring elements, whichever way the matrix lies.
template <class T, uint R, uint C, uint S>
inline void load_block(threadgroup float* tile, device const T* x, long row_stride, long column_stride,
                       uint row, uint column, uint rows, uint columns, float scale, uint thread_index) {
  bool by_rows = column_stride == 1;
  if (!kInFours) {
    for (uint i = thread_index; i < R * C; i += kTileThreads) {
      uint r = by_rows ? i / C : i % R;
      uint c = by_rows ? i % C : i / R;
      tile[r * S + c] =
          scale * element_or_zero(x, row_stride, column_stride, row + r, column + c, rows, columns);
    }
    return;
  }
  for (uint i = thread_index; i < R * C / 4; i += kTileThreads) {
    uint r = by_rows ? i / (C / 4) : i % (R / 4) * 4;
    uint c = by_rows ? i % (C / 4) * 4 : i / (R / 4);
    float4 values = 0.0f;
    // Four neighbours are inside together: the unit dimension is a multiple of four.
    if (row + r < rows && column + c < columns)
      values = scale * load_four(x + (static_cast<long>(row + r) * row_stride +
                                      static_cast<long>(column + c) * column_stride));
    for (uint e = 0; e < 4; ++e) tile[by_rows ? r * S + c + e : (r + e) * S + c] = values[e];
  }
}

/// sums += scale A B over the tile at (row, column): A [m, k], B [k, n]. `tiles` holds kTileFloats floats.
template <class TA, class TB>
inline void accumulate_product(thread Accumulators& sums, threadgroup float* tiles, device const TA* a,
                               long a_row, long a_column, device const TB* b, long b_row, long b_column,
                               uint m, uint n, uint k, uint row, uint column, float scale, uint thread_index,
                               uint simdgroup) {
  threadgroup float* a_tile = tiles;
  threadgroup float* b_tile = tiles + kTile * kDepthStride;
  uint top = (simdgroup / 2) * kHalfTile;
  uint left = (simdgroup % 2) * kHalfTile;
  for (uint start = 0; start < k; start += kDepth) {
    load_block<TA, kTile, kDepth, kDepthStride>(a_tile, a, a_row, a_column, row, start, m, k, scale,
                                                thread_index);
    load_block<TB, kDepth, kTile, kTileStride>(b_tile, b, b_row, b_column, start, column, k, n, 1.0f,
                                               thread_index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint step = 0; step < kDepth; step += 8) {
      simdgroup_float8x8 left_parts[4];
      simdgroup_float8x8 right_parts[4];
      for (uint i = 0; i < 4; ++i) {
        simdgroup_load(left_parts[i], a_tile + (top + i * 8) * kDepthStride + step, kDepthStride);
        simdgroup_load(right_parts[i], b_tile + step * kTileStride + left + i * 8, kTileStride);
      }
      for (uint i = 0; i < 4; ++i) {
        for (uint j = 0; j < 4; ++j) {
          simdgroup_multiply_accumulate(sums.at[i][j], left_parts[i], right_parts[j], sums.at[i][j]);
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

/// Puts the finished tile into `tiles`, row by row. No thread may still read operand tiles.
inline void spread(thread Accumulators& sums, threadgroup float* tiles, uint simdgroup) {
  uint top = (simdgroup / 2) * kHalfTile;
  uint left = (simdgroup % 2) * kHalfTile;
  for (uint i = 0; i < 4; ++i) {
    for (uint j = 0; j < 4; ++j) {
      simdgroup_store(sums.at[i][j], tiles + (top + i * 8) * kTileStride + left + j * 8, kTileStride);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

#endif
