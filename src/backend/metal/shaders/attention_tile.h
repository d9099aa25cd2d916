#ifndef CANDELA_METAL_SHADERS_ATTENTION_TILE_H
#define CANDELA_METAL_SHADERS_ATTENTION_TILE_H

#include "visible.h"

// Tiles of attention: every simdgroup has 8 rows (queries, or keys for the gradients of keys) against blocks
// of columns (keys, or queries). Operands lie in threadgroup memory as f32, products are matrices of 8 x 8.

/// Rows of a simdgroup.
constant constexpr uint kBand = 8;
/// 16 bytes behind each row of a tile keep simdgroup loads free of bank conflicts.
constant constexpr uint kPadding = 4;

/// The product of a column block with values that are not finite may not be a matrix product: 0 times NaN
/// would carry what a row does not see into it. `stamp` marks the block that such values were met in.
inline void mark_unless_finite(bool finite, threadgroup atomic_uint* marked, uint stamp) {
  if (!finite) atomic_store_explicit(marked, stamp, memory_order_relaxed);
}

/// Copies `lines` rows of heads from row `first` into tile [lines][D + kPadding], zeros from row `end` and
/// element `size` on.
template <class T, uint D>
inline void load_heads(threadgroup float* tile, device const T* heads, long row_stride, int first, int end,
                       uint size, uint lines, bool in_fours, threadgroup atomic_uint* marked, uint stamp,
                       uint thread_index, uint threads) {
  bool finite = true;
  for (uint unit = thread_index; unit < lines * (D / 4); unit += threads) {
    uint line = unit / (D / 4);
    uint at = unit % (D / 4) * 4;
    int row = first + static_cast<int>(line);
    device const T* from = heads + (static_cast<long>(row) * row_stride + static_cast<long>(at));
    float4 values = 0.0f;
    if (row < end && at + 4 <= size && in_fours) {
      values = load_four(from);
    } else if (row < end) {
      for (uint i = 0; i < 4; ++i) {
        if (at + i < size) values[i] = to_float(from[i]);
      }
    }
    for (uint i = 0; i < 4; ++i) finite = finite && isfinite(values[i]);
    *reinterpret_cast<threadgroup float4*>(tile + (line * (D + kPadding) + at)) = values;
  }
  mark_unless_finite(finite, marked, stamp);
}

/// out [8][C + kPadding] = rows [8] columns^T [C] over the first `size` elements (rounded up to 8) of tiles.
template <uint D, uint C>
inline void multiply_bands(threadgroup const float* rows, threadgroup const float* columns,
                           threadgroup float* out, uint size) {
  simdgroup_float8x8 sums[C / 8];
  for (uint c = 0; c < C / 8; ++c) sums[c] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  for (uint d = 0; d < size; d += 8) {
    simdgroup_float8x8 row_part;
    simdgroup_load(row_part, rows + d, D + kPadding);
    for (uint c = 0; c < C / 8; ++c) {
      simdgroup_float8x8 column_part;
      simdgroup_load(column_part, columns + (c * 8 * (D + kPadding) + d), D + kPadding, 0, true);
      simdgroup_multiply_accumulate(sums[c], row_part, column_part, sums[c]);
    }
  }
  for (uint c = 0; c < C / 8; ++c) simdgroup_store(sums[c], out + c * 8, C + kPadding);
}

/// The sums [8, D] of a simdgroup, and where in each 8 x 8 the two elements of this lane lie.
template <uint D>
struct BandSums {
  simdgroup_float8x8 at[D / 8];
  uint row[2], column[2];
};

/// `places` [64] holds 0 .. 63.
template <uint D>
inline void clear_sums(thread BandSums<D>& sums, threadgroup const float* places) {
  simdgroup_float8x8 place;
  simdgroup_load(place, places, 8);
  for (uint e = 0; e < 2; ++e) {
    uint position = static_cast<uint>(place.thread_elements()[e]);
    sums.row[e] = position / 8;
    sums.column[e] = position % 8;
  }
  for (uint n = 0; n < D / 8; ++n) sums.at[n] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

/// sums += weights [8][C] columns [C][D]. `begin` and `end` [8] tell which columns from `first` on a row
/// sees; where `exact`, others add nothing, whatever their values.
template <uint D, uint C>
inline void add_band(thread BandSums<D>& sums, threadgroup const float* weights,
                     threadgroup const float* columns, uint size, bool exact, threadgroup const int* begin,
                     threadgroup const int* end, int first) {
  if (!exact) {
    for (uint c = 0; c < C; c += 8) {
      simdgroup_float8x8 weight_part;
      simdgroup_load(weight_part, weights + c, C + kPadding);
      for (uint n = 0; n * 8 < size; ++n) {
        simdgroup_float8x8 column_part;
        simdgroup_load(column_part, columns + (c * (D + kPadding) + n * 8), D + kPadding);
        simdgroup_multiply_accumulate(sums.at[n], weight_part, column_part, sums.at[n]);
      }
    }
    return;
  }
  for (uint n = 0; n * 8 < size; ++n) {
    for (uint e = 0; e < 2; ++e) {
      uint row = sums.row[e];
      float sum = sums.at[n].thread_elements()[e];
      for (int c = 0; c < static_cast<int>(C); ++c) {
        if (first + c < begin[row] || first + c >= end[row]) continue;
        sum += weights[row * (C + kPadding) + static_cast<uint>(c)] *
               columns[static_cast<uint>(c) * (D + kPadding) + n * 8 + sums.column[e]];
      }
      sums.at[n].thread_elements()[e] = sum;
    }
  }
}

/// heads[first + r] = sums[r] factor[r] for the rows below `rows`; without `factor`, times 1.
template <class T, uint D>
inline void write_band(thread BandSums<D>& sums, device T* heads, long row_stride, int first, int rows,
                       uint size, threadgroup const float* factor) {
  for (uint n = 0; n * 8 < size; ++n) {
    for (uint e = 0; e < 2; ++e) {
      int row = first + static_cast<int>(sums.row[e]);
      uint d = n * 8 + sums.column[e];
      if (row >= rows || d >= size) continue;
      heads[static_cast<long>(row) * row_stride + static_cast<long>(d)] =
          from_float<T>(sums.at[n].thread_elements()[e] * factor[sums.row[e]]);
    }
  }
}

/// What a threadgroup begins with: the columns [begin, end) that each of its `count` rows sees (keys, or
/// queries where the rows are keys), factors of 1, places 0 .. 63, nothing marked.
template <bool kRowsAreKeys>
inline void see(constant candela::shader::AttentionParams& p, device const int* q_start,
                device const int* cu_seqlens, uint b, int first_row, int rows, uint count,
                threadgroup int* begin, threadgroup int* end, threadgroup float* factors,
                threadgroup float* places, threadgroup atomic_uint* marked, uint thread_index, uint threads) {
  if (thread_index == 0) atomic_store_explicit(marked, 0u, memory_order_relaxed);
  for (uint i = thread_index; i < 64; i += threads) places[i] = static_cast<float>(i);
  for (uint r = thread_index; r < count; r += threads) {
    Interval seen = {0, 0};
    int row = first_row + static_cast<int>(r);
    if (row < rows)
      seen =
          kRowsAreKeys ? queries_of(p, q_start, cu_seqlens, b, row) : keys_of(p, q_start, cu_seqlens, b, row);
    begin[r] = seen.begin;
    end[r] = seen.end;
    factors[r] = 1.0f;
  }
}

/// The columns that any of `count` rows sees.
inline Interval union_of(threadgroup const int* begin, threadgroup const int* end, uint count) {
  Interval all = {0x7fffffff, 0};
  for (uint r = 0; r < count; ++r) {
    if (begin[r] >= end[r]) continue;
    all.begin = min(all.begin, begin[r]);
    all.end = max(all.end, end[r]);
  }
  return all;
}

#endif
