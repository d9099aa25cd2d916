// What the forward and the backward pass of attention are made of, once per target: products of small
// matrices of floats, and rows brought to floats. No #pragma once: foreach_target.h includes it again for
// each target.
#if defined(CANDELA_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CANDELA_ATTENTION_INL_H_
#undef CANDELA_ATTENTION_INL_H_
#else
#define CANDELA_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cstring>
#include <hwy/cache_control.h>
#include <limits>

#include "backend/cpu/attention.h"
#include "backend/cpu/simd-inl.h"
#include "backend/dispatch.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {

using attention_detail::Geometry;
using attention_detail::KeyCache;
using attention_detail::kKeyBlock;
using attention_detail::kPad;
using attention_detail::kTileRows;
using attention_detail::Power;
using attention_detail::Range;
using attention_detail::Tile;

static_assert(kPad % kLaneBuffer == 0 && kTileRows % kLaneBuffer == 0, "rows are whole vectors");

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// The smallest number of lanes in whole vectors that hold `count`.
HWY_INLINE std::int64_t whole_vectors(std::int64_t count) {
  return (count + lanes() - 1) / lanes() * lanes();
}

/// Element (i, p) of a matrix of floats lies at data[i row + p step].
struct Strided {
  const float* data;
  std::int64_t row, step;
};
/// Rows of floats, ld apart.
struct FloatRows {
  const float* data;
  std::int64_t ld;
};

/// The block of results a product keeps in registers: kHeight rows of kVectors vectors.
/// One of a single lane: GCC 12 joins two such columns to a vector and reads the row behind the last one.
inline constexpr int kVectors = HWY_TARGET == HWY_SCALAR ? 1 : kLaneBuffer == 16 || HWY_ARCH_ARM_A64 ? 4 : 2;
inline constexpr int kHeight = 6;

/// c [M, N vectors] = or += a b over depth k. Each result is one chain of multiply-adds in the order of k,
/// whatever block it falls in: the same scores come out bit by bit in the forward and the backward pass.
template <int M, int N, bool kUnitRow>
HWY_INLINE void product_block(Strided a, FloatRows b, std::int64_t k, float* HWY_RESTRICT c, std::int64_t ldc,
                              bool add) {
  const std::int64_t lane_count = lanes();
  const std::int64_t row = kUnitRow ? 1 : a.row;
  Vec sums[M][N];
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) sums[i][j] = splat(0);
  }
  const float* HWY_RESTRICT left = a.data;
  const float* HWY_RESTRICT right = b.data;
  for (std::int64_t p = 0; p < k; ++p, left += a.step, right += b.ld) {
    Vec columns[N];
    for (int j = 0; j < N; ++j) columns[j] = load(right + j * lane_count);
    for (int i = 0; i < M; ++i) {
      const Vec factor = splat(left[i * row]);
      for (int j = 0; j < N; ++j) sums[i][j] = hn::MulAdd(factor, columns[j], sums[i][j]);
    }
  }
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      float* at = c + i * ldc + j * lane_count;
      store(add ? hn::Add(load(at), sums[i][j]) : sums[i][j], at);
    }
  }
}

/// All rows of N vectors of columns.
template <int N, bool kUnitRow>
void product_columns(std::int64_t m, std::int64_t k, Strided a, FloatRows b, float* c, std::int64_t ldc,
                     bool add) {
  std::int64_t i = 0;
  const auto left = [&] { return Strided{a.data + i * a.row, a.row, a.step}; };
  for (; i + kHeight <= m; i += kHeight)
    product_block<kHeight, N, kUnitRow>(left(), b, k, c + i * ldc, ldc, add);
  switch (m - i) {
    case 5:
      return product_block<5, N, kUnitRow>(left(), b, k, c + i * ldc, ldc, add);
    case 4:
      return product_block<4, N, kUnitRow>(left(), b, k, c + i * ldc, ldc, add);
    case 3:
      return product_block<3, N, kUnitRow>(left(), b, k, c + i * ldc, ldc, add);
    case 2:
      return product_block<2, N, kUnitRow>(left(), b, k, c + i * ldc, ldc, add);
    case 1:
      return product_block<1, N, kUnitRow>(left(), b, k, c + i * ldc, ldc, add);
    default:
      return;
  }
}

/// c [m, n] = or += a [m, k] b [k, n]; n is a whole number of vectors.
template <bool kUnitRow>
void product(std::int64_t m, std::int64_t n, std::int64_t k, Strided a, FloatRows b, float* c,
             std::int64_t ldc, bool add) {
  const std::int64_t lane_count = lanes();
  std::int64_t j = 0;
  const auto right = [&] { return FloatRows{b.data + j, b.ld}; };
  for (; j + kVectors * lane_count <= n; j += kVectors * lane_count)
    product_columns<kVectors, kUnitRow>(m, k, a, right(), c + j, ldc, add);
  if constexpr (kVectors > 2) {
    if (n - j == 3 * lane_count) return product_columns<3, kUnitRow>(m, k, a, right(), c + j, ldc, add);
    if (n - j == 2 * lane_count) return product_columns<2, kUnitRow>(m, k, a, right(), c + j, ldc, add);
  }
  if (n - j == lane_count) product_columns<1, kUnitRow>(m, k, a, right(), c + j, ldc, add);
}

/// to[0, padded) = from[0, size) as floats, then zeros.
template <class T>
HWY_INLINE void widen_row(const T* from, std::int64_t size, std::int64_t padded, float* to) {
  const std::int64_t lane_count = lanes();
  std::int64_t i = 0;
  for (; i + lane_count <= size; i += lane_count) store(load(from + i), to + i);
  if (i < size) {
    store(load_some(from + i, size - i), to + i);
    i += lane_count;
  }
  for (; i < padded; i += lane_count) store(splat(0), to + i);
}

/// The tile's rows of x [B, T, H, D] as floats [count, padded].
HWY_INLINE void tile_rows(const TensorArg& x, const Geometry& g, const Tile& tile, float* to) {
  dispatch_floating(x.dtype, "attention", [&]<class T>() {
    for (std::int64_t i = 0; i < tile.count; ++i)
      widen_row(x.as<T>() + tile.offset(x, i), g.size, g.padded, to + i * g.padded);
  });
}

/// to [padded, kTileRows] = sign times the transpose of from [count, padded]; the columns up to a whole
/// number of vectors are zero. `from` has room for whole vectors of rows.
HWY_INLINE void transpose_rows(float* from, std::int64_t count, std::int64_t padded, float sign, float* to) {
  const std::int64_t lane_count = lanes();
  const Vec by = splat(sign);
  const std::int64_t columns = (whole_vectors(count) + 3) / 4 * 4;
  std::fill(from + count * padded, from + columns * padded, 0.0F);
  for (std::int64_t i = 0; i < columns; i += 4) {
    for (std::int64_t j = 0; j < padded; j += lane_count) {
      const auto row = [&](std::int64_t r) { return hn::Mul(by, load(from + (i + r) * padded + j)); };
      float quads[4 * kLaneBuffer];
      hn::StoreInterleaved4(row(0), row(1), row(2), row(3), Floats(), quads);
      for (std::int64_t l = 0; l < lane_count; ++l)
        std::memcpy(to + (j + l) * kTileRows + i, quads + 4 * l, 4 * sizeof(float));
    }
  }
}

/// The keys and values of a tile as floats: in place if they are whole vectors of floats, one row after the
/// other (rows far apart would fall on few sets of the cache); else in the thread's cache.
class TileKeys {
 public:
  TileKeys(const AttentionArgs& args, const Geometry& g, const Tile& tile, Range keys, KeyCache& cache)
      : g_(g),
        k_(attention_detail::head_of(args.k, tile.b, tile.key_head)),
        v_(attention_detail::head_of(args.v, tile.b, tile.key_head)),
        keys_(keys),
        cache_(cache),
        whole_(keys.count() <= cache.rows) {
    if (whole_ && cache.holds(tile, keys)) return;
    cache.b = whole_ ? tile.b : -1;
    cache.key_head = tile.key_head;
    cache.keys = keys;
    if (!whole_) return;
    widen(k_, keys.begin, keys.count(), cache.k);
    widen(v_, keys.begin, keys.count(), cache.v);
  }
  /// Keys [first, first + count), one block.
  FloatRows k(std::int64_t first, std::int64_t count) const { return rows(k_, first, count, cache_.k); }
  FloatRows v(std::int64_t first, std::int64_t count) const { return rows(v_, first, count, cache_.v); }

  /// Asks for rows [first, first + count) of keys and values. Rows are far apart, which the hardware does not
  /// foresee.
  HWY_INLINE void fetch(std::int64_t first, std::int64_t count) const {
    if (whole_) return;
    constexpr std::int64_t kLine = 64;
    const std::int64_t bytes = g_.size * static_cast<std::int64_t>(size_of(k_.dtype));
    for (std::int64_t j = first; j < std::min(first + count, keys_.end); ++j) {
      for (const Matrix* x : {&k_, &v_}) {
        const auto* row = static_cast<const std::byte*>(x->at(j, 0).data);
        for (std::int64_t at = 0; at < bytes; at += kLine) hwy::Prefetch(row + at);
      }
    }
  }

 private:
  bool in_place(const Matrix& head) const {
    return head.dtype == DType::F32 && head.row_stride == g_.size && g_.size % lanes() == 0;
  }
  FloatRows rows(const Matrix& head, std::int64_t first, std::int64_t count, float* buffer) const {
    if (in_place(head)) return {static_cast<const float*>(head.at(first, 0).data), head.row_stride};
    if (whole_) return {buffer + (first - cache_.keys.begin) * g_.padded, g_.padded};
    widen(head, first, count, buffer);
    return {buffer, g_.padded};
  }
  void widen(const Matrix& head, std::int64_t first, std::int64_t count, float* to) const {
    if (in_place(head)) return;
    dispatch_floating(head.dtype, "attention", [&]<class T>() {
      const T* from = static_cast<const T*>(head.data) + first * head.row_stride;
      for (std::int64_t j = 0; j < count; ++j)
        widen_row(from + j * head.row_stride, g_.size, g_.padded, to + j * g_.padded);
    });
  }

  const Geometry& g_;
  Matrix k_, v_;
  Range keys_;
  KeyCache& cache_;
  bool whole_;
};

/// Whether no element of the rows is NaN or infinite: zero times any of those is NaN.
HWY_INLINE bool all_finite(FloatRows rows, std::int64_t count, std::int64_t size) {
  const std::int64_t lane_count = lanes();
  Vec zeros = splat(0);
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t j = 0; j < size; j += lane_count)
      zeros = hn::MulAdd(load(rows.data + i * rows.ld + j), splat(0), zeros);
  }
  return hn::AllTrue(Floats(), hn::Eq(zeros, splat(0)));
}

/// to[0, size) += factor x[0, size), size a whole number of vectors.
HWY_INLINE void add_scaled(float factor, const float* x, std::int64_t size, float* to) {
  const std::int64_t lane_count = lanes();
  const Vec scale = splat(factor);
  for (std::int64_t i = 0; i < size; i += lane_count)
    store(hn::MulAdd(scale, load(x + i), load(to + i)), to + i);
}

/// 2^x for x <= 0 to one unit in the last place: 2^n p(r) with n = round(x), r = x - n. Results below the
/// smallest normal number are 0; NaN stays.
HWY_INLINE Vec exp2_nonpositive(Vec x) {
  const Vec n = hn::Round(x);
  const Vec r = hn::Sub(x, n);
  // Minimax on [-1/2, 1/2] with p(0) = 1.
  Vec p = hn::MulAdd(splat(1.5353361891e-4F), r, splat(1.3398874422e-3F));
  p = hn::MulAdd(p, r, splat(9.6184373578e-3F));
  p = hn::MulAdd(p, r, splat(5.5503324711e-2F));
  p = hn::MulAdd(p, r, splat(2.4022647914e-1F));
  p = hn::MulAdd(p, r, splat(6.9314720286e-1F));
  p = hn::MulAdd(p, r, splat(1.0F));
  const auto power = hn::Add(hn::BitCast(Ints(), p), hn::ShiftLeft<23>(hn::ConvertTo(Ints(), n)));
  // p is NaN only where x is NaN or infinite, and then its exponent must stay as it is.
  const Vec scaled = hn::IfThenElse(hn::IsNaN(x), x, hn::BitCast(Floats(), power));
  return hn::IfThenElse(hn::Lt(x, splat(-126.0F)), splat(0), scaled);
}

/// out[i] = factor times the sum over n of parts[n][i], in the order of n.
template <class T>
HWY_INLINE void store_sum(const float* const* parts, std::int64_t count, std::int64_t at, float factor,
                          std::int64_t size, T* out) {
  const std::int64_t lane_count = lanes();
  const Vec scale = splat(factor);
  for (std::int64_t i = 0; i < size; i += lane_count) {
    // Rows of parts are whole vectors.
    Vec sum = count > 0 ? load(parts[0] + at + i) : splat(0);
    for (std::int64_t n = 1; n < count; ++n) sum = hn::Add(sum, load(parts[n] + at + i));
    if (i + lane_count <= size) {
      store(hn::Mul(scale, sum), out + i);
    } else {
      store_some(hn::Mul(scale, sum), out + i, size - i);
    }
  }
}

/// Per row of a tile, which keys of a block it sees: lanes of [begin, end), counted from the block's first.
struct BlockMask {
  alignas(64) std::int32_t begin[kTileRows];
  alignas(64) std::int32_t end[kTileRows];
  /// keys that any of kPad rows sees
  Range columns[kTileRows / kPad];

  BlockMask(const Tile& tile, std::int64_t key, std::int64_t count) : begin{}, end{} {
    for (std::int64_t i = 0; i < tile.count; ++i) {
      begin[i] = static_cast<std::int32_t>(std::clamp<std::int64_t>(tile.rows[i].begin - key, 0, count));
      end[i] = static_cast<std::int32_t>(std::clamp<std::int64_t>(tile.rows[i].end - key, 0, count));
    }
    for (std::int64_t c = 0; c < kTileRows / kPad; ++c) columns[c] = keys_of(c * kPad, kPad);
  }
  /// Keys that any of the rows [first, first + rows) sees.
  Range keys_of(std::int64_t first, std::int64_t rows) const {
    Range keys{std::numeric_limits<std::int32_t>::max(), 0};
    for (std::int64_t i = first; i < first + rows; ++i) {
      if (begin[i] >= end[i]) continue;
      keys.begin = std::min<std::int64_t>(keys.begin, begin[i]);
      keys.end = std::max<std::int64_t>(keys.end, end[i]);
    }
    return keys.empty() ? Range{} : keys;
  }
  /// Rows that see any of the keys, in steps of kPad.
  Range rows_of(Range keys) const {
    Range rows{kTileRows, 0};
    for (std::int64_t c = 0; c < kTileRows / kPad; ++c) {
      if (columns[c].begin >= keys.end || columns[c].end <= keys.begin) continue;
      rows.begin = std::min(rows.begin, c * kPad);
      rows.end = (c + 1) * kPad;
    }
    return rows.empty() ? Range{} : rows;
  }
};

// The three kinds of product of a block. With a mask, parts that no row sees are left out: scores are not
// written there, and weights are taken as zero.

/// Keys that are cut off together.
inline constexpr std::int64_t kKeyGroup = 2 * kHeight;

/// scores [count, kTileRows] = keys [count, D] panel [D, kTileRows], for the first `rows` rows of the tile.
/// Before each group of keys `meanwhile(first key, count)` is called.
template <class Meanwhile>
void score_products(const FloatRows& keys, std::int64_t count, const float* panel, std::int64_t rows,
                    const BlockMask* mask, const Geometry& g, float* scores, Meanwhile&& meanwhile) {
  const std::int64_t columns = whole_vectors(rows);
  for (std::int64_t j = 0; j < count; j += kKeyGroup) {
    const std::int64_t height = std::min(kKeyGroup, count - j);
    meanwhile(j, height);
    const Range seen = mask == nullptr ? Range{0, columns} : mask->rows_of({j, j + height});
    product<false>(height, std::min(seen.end, columns) - seen.begin, g.size,
                   {keys.data + j * keys.ld, keys.ld, 1}, {panel + seen.begin, kTileRows},
                   scores + j * kTileRows + seen.begin, kTileRows, false);
  }
}

/// The bias of row i of the tile for key j, in units of the products in `scores`.
HWY_INLINE float distance_bias(const AttentionArgs& args, const Tile& tile, std::int64_t i, std::int64_t j) {
  const TensorArg& bias = args.distance_bias;
  const std::int64_t reach = bias.shape[1] / 2;
  const std::int64_t at = std::clamp(j - tile.query[i], -reach, reach) + reach;
  return bias.as<float>()[tile.head[i] * bias.strides[0] + at * bias.strides[1]] /
         static_cast<float>(std::abs(args.scale));
}

/// scores [count, kTileRows] += the biases of keys [key, key + count).
inline void add_distance_bias(const AttentionArgs& args, const Tile& tile, std::int64_t key,
                              std::int64_t count, float* scores) {
  if (!args.distance_bias.present()) return;
  for (std::int64_t j = 0; j < count; ++j) {
    for (std::int64_t i = 0; i < tile.count; ++i)
      scores[j * kTileRows + i] += distance_bias(args, tile, i, key + j);
  }
}

/// out [rows, padded] += weights^T values, weights [count, kTileRows], values [count, D].
inline void add_to_rows(const float* weights, const FloatRows& values, std::int64_t count, std::int64_t rows,
                        const BlockMask* mask, const Geometry& g, float* out) {
  const std::int64_t size = whole_vectors(g.size);
  if (mask == nullptr) {
    return product<true>(rows, size, count, {weights, 1, kTileRows}, values, out, g.padded, true);
  }
  for (std::int64_t i = 0; i < rows; i += kHeight) {
    const std::int64_t height = std::min<std::int64_t>(kHeight, rows - i);
    const Range seen = mask->keys_of(i, height);
    product<true>(height, size, seen.count(), {weights + seen.begin * kTileRows + i, 1, kTileRows},
                  {values.data + seen.begin * values.ld, values.ld}, out + i * g.padded, g.padded, true);
  }
}

/// out [count, padded] += weights of_rows, weights [count, kTileRows], of_rows [rows, padded].
inline void add_to_keys(const float* weights, const float* of_rows, std::int64_t count, std::int64_t rows,
                        const BlockMask* mask, const Geometry& g, float* out) {
  const std::int64_t size = whole_vectors(g.size);
  const std::int64_t step = mask == nullptr ? count : kKeyGroup;
  for (std::int64_t j = 0; j < count; j += step) {
    const std::int64_t height = std::min(step, count - j);
    const Range seen = mask == nullptr ? Range{0, rows} : mask->rows_of({j, j + height});
    product<false>(height, size, std::min(seen.end, rows) - seen.begin,
                   {weights + j * kTileRows + seen.begin, kTileRows, 1},
                   {of_rows + seen.begin * g.padded, g.padded}, out + j * g.padded, g.padded, true);
  }
}

/// Zeros for the keys of one vector of rows that none of them sees.
HWY_INLINE void clear_unseen(float* column, std::int64_t count, Range seen) {
  for (std::int64_t j = 0; j < seen.begin; ++j) store(splat(0), column + j * kTileRows);
  for (std::int64_t j = std::max(seen.begin, seen.end); j < count; ++j)
    store(splat(0), column + j * kTileRows);
}

/// Whether each of one vector of rows sees key j of a block; without a mask every row does.
template <bool kMasked>
struct Sight {
  hn::Vec<Ints> begin, end;

  Sight(const BlockMask* mask, std::int64_t column) : begin(hn::Zero(Ints())), end(hn::Zero(Ints())) {
    if constexpr (!kMasked) return;
    begin = hn::LoadU(Ints(), mask->begin + column);
    end = hn::LoadU(Ints(), mask->end + column);
  }
  HWY_INLINE Vec keep_or(std::int64_t j, Vec value, Vec other) const {
    if constexpr (!kMasked) return value;
    const auto at = hn::Set(Ints(), static_cast<std::int32_t>(j));
    const auto seen = hn::AndNot(hn::Lt(at, begin), hn::Lt(at, end));
    return hn::IfThenElse(hn::RebindMask(Floats(), seen), value, other);
  }
};

}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
