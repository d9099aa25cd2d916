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
/// Both operand tiles while multiplying, the finished tile afterwards.
constant constexpr uint kTileFloats = kTile * kTile;

struct Accumulators {
  simdgroup_float8x8 at[4][4];
};

inline void clear(thread Accumulators& sums) {
  for (uint i = 0; i < 4; ++i) {
    for (uint j = 0; j < 4; ++j) sums.at[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }
}

/// Copies rows [row, row + kTile) x columns [column, column + kDepth) of a matrix into `tile` [kTile][kDepth]
/// times `scale`, zero outside rows x columns. Neighbouring threads read neighbouring elements, whichever way
/// the matrix lies.
template <class T>
inline void load_rows(threadgroup float* tile, device const T* x, long row_stride, long column_stride,
                      uint row, uint column, uint rows, uint columns, float scale, uint thread_index) {
  for (uint i = thread_index; i < kTile * kDepth; i += kTileThreads) {
    uint r = column_stride == 1 ? i / kDepth : i % kTile;
    uint c = column_stride == 1 ? i % kDepth : i / kTile;
    float value = 0.0f;
    if (row + r < rows && column + c < columns) {
      value = scale *
              to_float(
                  x[static_cast<long>(row + r) * row_stride + static_cast<long>(column + c) * column_stride]);
    }
    tile[r * kDepth + c] = value;
  }
}

/// The same for rows [row, row + kDepth) x columns [column, column + kTile), into [kDepth][kTile].
template <class T>
inline void load_columns(threadgroup float* tile, device const T* x, long row_stride, long column_stride,
                         uint row, uint column, uint rows, uint columns, uint thread_index) {
  for (uint i = thread_index; i < kTile * kDepth; i += kTileThreads) {
    uint r = column_stride == 1 ? i / kTile : i % kDepth;
    uint c = column_stride == 1 ? i % kTile : i / kDepth;
    float value = 0.0f;
    if (row + r < rows && column + c < columns) {
      value = to_float(
          x[static_cast<long>(row + r) * row_stride + static_cast<long>(column + c) * column_stride]);
    }
    tile[r * kTile + c] = value;
  }
}

/// sums += scale A B over the tile at (row, column): A [m, k], B [k, n]. `tiles` holds kTileFloats floats.
template <class TA, class TB>
inline void accumulate_product(thread Accumulators& sums, threadgroup float* tiles, device const TA* a,
                               long a_row, long a_column, device const TB* b, long b_row, long b_column,
                               uint m, uint n, uint k, uint row, uint column, float scale, uint thread_index,
                               uint simdgroup) {
  threadgroup float* a_tile = tiles;
  threadgroup float* b_tile = tiles + kTile * kDepth;
  uint top = (simdgroup / 2) * kHalfTile;
  uint left = (simdgroup % 2) * kHalfTile;
  for (uint start = 0; start < k; start += kDepth) {
    load_rows(a_tile, a, a_row, a_column, row, start, m, k, scale, thread_index);
    load_columns(b_tile, b, b_row, b_column, start, column, k, n, thread_index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint step = 0; step < kDepth; step += 8) {
      simdgroup_float8x8 left_parts[4];
      simdgroup_float8x8 right_parts[4];
      for (uint i = 0; i < 4; ++i) {
        simdgroup_load(left_parts[i], a_tile + (top + i * 8) * kDepth + step, kDepth);
        simdgroup_load(right_parts[i], b_tile + step * kTile + left + i * 8, kTile);
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
      simdgroup_store(sums.at[i][j], tiles + (top + i * 8) * kTile + left + j * 8, kTile);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

#endif
