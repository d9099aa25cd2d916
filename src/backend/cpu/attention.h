#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "backend/cpu/gemm.h"
#include "backend/kernels.h"

/// What the attention kernels share: which keys a query sees, tiles of queries, and the steps that are
/// compiled for each instruction set.
///
/// The unit of work is a tile: up to kTileRows rows that share the keys of one key head. A row is a query of
/// one of the G = H / K heads that use the key head, in the order of the queries: row i is query i / G of
/// head i % G. Keys come in blocks of kKeyBlock. Scores lie transposed, [keys, kTileRows]: the statistics of
/// the rows are then vectors over rows, and keys and values are read where and as they lie.
namespace candela::attention_detail {

inline constexpr std::int64_t kTileRows = 64;
inline constexpr std::int64_t kKeyBlock = 128;
/// Rows of floats in buffers are zero beyond D, up to a multiple of this: products need no masks.
inline constexpr std::int64_t kPad = 16;

/// The keys a query sees are one interval.
struct Range {
  std::int64_t begin = 0, end = 0;

  std::int64_t count() const { return std::max<std::int64_t>(end - begin, 0); }
  bool empty() const { return begin >= end; }
  /// Part `index` of `parts`, each (but the last) a whole number of key blocks.
  Range part(std::int64_t index, std::int64_t parts) const {
    const std::int64_t blocks = (count() + kKeyBlock - 1) / kKeyBlock;
    return {begin + blocks * index / parts * kKeyBlock,
            std::min(end, begin + blocks * (index + 1) / parts * kKeyBlock)};
  }
};

struct Geometry {
  std::int64_t batch, queries, heads, size, keys, key_heads, group;
  /// of one key head
  std::int64_t rows;
  /// of one key head
  std::int64_t tiles;
  /// size in buffers
  std::int64_t padded;

  explicit Geometry(const AttentionArgs& args)
      : batch(args.q.shape[0]),
        queries(args.q.shape[1]),
        heads(args.q.shape[2]),
        size(args.q.shape[3]),
        keys(args.k.shape[1]),
        key_heads(args.k.shape[2]),
        group(heads / key_heads),
        rows(queries * group),
        tiles((rows + kTileRows - 1) / kTileRows),
        padded((size + kPad - 1) / kPad * kPad) {}
};

/// Keys that query `t` of row `b` sees; begin = end where there is none.
Range visible_keys(const AttentionArgs& args, std::int64_t b, std::int64_t t);

/// Rows [first, first + count) of key head `key_head` of batch row `b`, and the keys each of them sees.
struct Tile {
  std::int64_t b, key_head, first, count;
  /// of each row
  std::int64_t query[kTileRows];
  /// of each row, among all H
  std::int64_t head[kTileRows];
  Range rows[kTileRows];
  /// keys that any row sees
  Range hull;
  /// keys that every row sees
  Range common;

  /// The tile that begins at row index kTileRows.
  Tile(const AttentionArgs& args, const Geometry& g, std::int64_t of_b, std::int64_t of_key_head,
       std::int64_t index);

  /// Row i in `x` [B, T, H, D], in elements.
  std::int64_t offset(const TensorArg& x, std::int64_t i) const {
    return b * x.strides[0] + query[i] * x.strides[1] + head[i] * x.strides[2];
  }
  /// Row i of `x` [B, H, T].
  float& statistic(const TensorArg& x, std::int64_t i) const {
    return x.as<float>()[b * x.strides[0] + head[i] * x.strides[1] + query[i] * x.strides[2]];
  }
  /// Whether some row does not see some of the keys.
  bool masks(Range keys) const { return keys.begin < common.begin || keys.end > common.end; }
};

/// Head `h` of row `b` as a matrix [T or S, D].
inline Matrix head_of(const TensorArg& x, std::int64_t b, std::int64_t h) {
  return Matrix{x.data, x.dtype, x.strides[1], 1}.at(0, b * x.strides[0] + h * x.strides[2]);
}

/// exp(scale (q . k - top)) as 2^(factor (sign q . k - sign top)): the sign of the scale goes into q, so that
/// the largest product has the largest score. The difference comes first, where it is exact for products near
/// the top, whatever their size.
struct Power {
  float factor, sign;

  explicit Power(double scale)
      : factor(static_cast<float>(std::abs(scale) * std::numbers::log2e)), sign(scale < 0 ? -1.0F : 1.0F) {}
};

/// The state of the online softmax of a tile, with products counted as in Power: out [kTileRows, padded] is
/// the sum of 2^(factor (product - top)) v, total that of 2^(factor (product - top)).
struct Sums {
  float *out, *top, *total;
};

/// Elements that the Sums of `rows` rows take.
inline std::int64_t sums_size(const Geometry& g, std::int64_t rows) {
  return rows * g.padded + 2 * kTileRows;
}
inline Sums sums_at(float* memory) {
  return {memory + 2 * kTileRows, memory, memory + kTileRows};
}

/// One thread's keys and values as floats, [rows, padded] each: those of one tile if they fit, for the tiles
/// of the same head that come next; else a block.
struct KeyCache {
  float *k, *v;
  std::int64_t rows;
  /// whose keys lie in it; b < 0: a block's
  std::int64_t b = -1, key_head = -1;
  Range keys = {};

  /// Rows that stay in a second-level cache beside what else is worked on.
  static std::int64_t rows_for(const Geometry& g) {
    constexpr std::int64_t kElements = 1 << 15;
    return std::clamp<std::int64_t>(kElements / g.padded, kKeyBlock, std::max(g.keys, kKeyBlock));
  }
  static std::int64_t elements(const Geometry& g) { return 2 * rows_for(g) * g.padded; }
  KeyCache(const Geometry& g, float* memory) : k(memory), v(k + rows_for(g) * g.padded), rows(rows_for(g)) {}
  bool holds(const Tile& tile, Range wanted) const {
    return b == tile.b && key_head == tile.key_head && keys.begin <= wanted.begin && wanted.end <= keys.end;
  }
};

/// Elements of `memory` that forward_tile and decode_tile need.
std::int64_t forward_memory(const Geometry& g);
/// Attention of the tile over those of `keys` that it sees, block by block (Milakov & Gimelshein, 2018; Dao,
/// 2023).
void forward_tile(const AttentionArgs& args, const Geometry& g, const Tile& tile, Range keys, float* memory,
                  KeyCache& cache, const Sums& sums);
/// The same for a tile of at most gemm_detail::kNarrowRows rows, all of one query: keys and values are read
/// once, in their own dtype.
void decode_tile(const AttentionArgs& args, const Geometry& g, const Tile& tile, Range keys, float* memory,
                 const Sums& sums);
/// Joins the sums of `parts` ranges of keys, in their order, in the first; writes out, top and total.
void finish_tile(const AttentionArgs& args, const Geometry& g, const Tile& tile, const Sums* parts,
                 std::int64_t count);

/// Elements of `memory` that grad_tile needs.
std::int64_t grad_memory(const Geometry& g);
/// What the keys `keys` and the tile give each other: with P = exp(scale (q . k - top)) / total, delta_i =
/// dout_i . out_i and dS = P (dout v^T - delta) scale: dq = dS k, dk += dS^T q, dv += P^T dout. dq
/// [kTileRows, padded]; dk, dv [keys, padded].
void grad_tile(const AttentionGradArgs& args, const Geometry& g, const Tile& tile, Range keys, float* memory,
               KeyCache& cache, float* dq, float* dk, float* dv);

/// The tile's rows of x [B, T, H, D] = the sum of `count` parts [kTileRows, padded], in their order.
void store_tile(const float* const* parts, std::int64_t count, const TensorArg& x, const Geometry& g,
                const Tile& tile);
/// The first `rows` rows of `to` [rows, size] = the sum of `count` parts [rows, padded]; zeros if there is
/// none.
void store_rows(const float* const* parts, std::int64_t count, const Matrix& to, std::int64_t rows,
                const Geometry& g);

}  // namespace candela::attention_detail
