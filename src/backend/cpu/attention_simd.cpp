#include <algorithm>
#include <cmath>
#include <optional>

#include "backend/cpu/attention.h"
#include "backend/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {

using attention_detail::head_of;
using attention_detail::Sums;

/// What products are taken relative to. Nothing but -inf (or NaN) so far: any finite number gives weights of
/// 0 (or NaN).
HWY_INLINE Vec shift_of(Vec top) {
  return hn::IfThenElse(hn::Eq(top, splat(kMinusInfinity)), splat(0), top);
}
HWY_INLINE float shift_of(float top) {
  return top == kMinusInfinity ? 0 : top;
}

/// Products [count, kTileRows] of a block of keys become weights 2^(factor (product - new top)), zero where
/// the row does not see the key; top and total follow. decay [kTileRows] is what the sums so far shrink by.
template <bool kMasked>
void online_softmax(float* scores, std::int64_t count, const BlockMask* mask, float factor, std::int64_t rows,
                    const Sums& sums, float* decay) {
  const Vec by = splat(factor);
  const Vec lowest = splat(kMinusInfinity);
  for (std::int64_t i = 0; i < rows; i += lanes()) {
    const Sight<kMasked> sight(mask, i);
    float* column = scores + i;
    const Range keys = kMasked ? mask->columns[i / kPad] : Range{0, count};
    clear_unseen(column, count, keys);
    const Vec before = load(sums.top + i);
    Vec top = before;
    for (std::int64_t j = keys.begin; j < keys.end; ++j) {
      const Vec seen = sight.keep_or(j, load(column + j * kTileRows), lowest);
      top = hn::IfThenElse(hn::Gt(seen, top), seen, top);
    }
    const Vec shift = shift_of(top);
    Vec total = splat(0);
    for (std::int64_t j = keys.begin; j < keys.end; ++j) {
      const Vec below = hn::Sub(load(column + j * kTileRows), shift);
      const Vec weight = exp2_nonpositive(hn::Mul(by, below));
      const Vec seen = sight.keep_or(j, weight, splat(0));
      store(seen, column + j * kTileRows);
      total = hn::Add(total, seen);
    }
    const Vec shrink = exp2_nonpositive(hn::Mul(by, hn::Sub(before, shift)));
    store(shrink, decay + i);
    store(top, sums.top + i);
    store(hn::MulAdd(load(sums.total + i), shrink, total), sums.total + i);
  }
}

void clear_sums(const Geometry& g, std::int64_t rows, const Sums& sums) {
  std::fill_n(sums.top, kTileRows, kMinusInfinity);
  std::fill_n(sums.total, kTileRows, 0.0F);
  std::fill_n(sums.out, rows * g.padded, 0.0F);
}

/// x[0, size) *= factor, size a whole number of vectors.
HWY_INLINE void scale_row(float* x, std::int64_t size, float factor) {
  const Vec scale = splat(factor);
  for (std::int64_t i = 0; i < size; i += lanes()) store(hn::Mul(scale, load(x + i)), x + i);
}

void forward_tile(const AttentionArgs& args, const Geometry& g, const Tile& tile, Range keys, float* memory,
                  KeyCache& cache, const Sums& sums) {
  float* transposed = memory;
  float* rows = transposed + g.padded * kTileRows;
  float* scores = rows + kTileRows * g.padded;
  alignas(64) float decay[kTileRows];
  const Power power(args.scale);
  clear_sums(g, tile.count, sums);
  tile_rows(args.q, g, tile, rows);
  transpose_rows(rows, tile.count, g.padded, power.sign, transposed);
  const TileKeys heads(args, g, tile, keys, cache);
  const std::int64_t columns = whole_vectors(tile.count);
  const std::int64_t size = whole_vectors(g.size);
  for (std::int64_t key = keys.begin; key < keys.end; key += kKeyBlock) {
    const std::int64_t count = std::min(kKeyBlock, keys.end - key);
    const FloatRows k = heads.k(key, count);
    const FloatRows v = heads.v(key, count);
    const bool masked = tile.masks({key, key + count});
    const std::optional<BlockMask> mask =
        masked ? std::optional<BlockMask>({tile, key, count}) : std::nullopt;
    const BlockMask* seen_by = masked ? &*mask : nullptr;
    score_products(k, count, transposed, tile.count, seen_by, g, scores,
                   [&](std::int64_t j, std::int64_t rows_on) { heads.fetch(key + count + j, rows_on); });
    add_distance_bias(args, tile, key, count, scores);
    (masked ? online_softmax<true> : online_softmax<false>)(scores, count, seen_by, power.factor, columns,
                                                            sums, decay);
    for (std::int64_t i = 0; i < tile.count; ++i) {
      if (decay[i] != 1) scale_row(sums.out + i * g.padded, size, decay[i]);
    }
    if (!masked || all_finite(v, count, size)) {
      add_to_rows(scores, v, count, tile.count, seen_by, g, sums.out);
      continue;
    }
    // A weight of zero would let NaN and infinity of keys through that the row does not see.
    for (std::int64_t i = 0; i < tile.count; ++i) {
      const Range seen{std::max(tile.rows[i].begin, key), std::min(tile.rows[i].end, key + count)};
      for (std::int64_t j = seen.begin - key; j < seen.end - key; ++j)
        add_scaled(scores[j * kTileRows + i], v.data + j * v.ld, size, sums.out + i * g.padded);
    }
  }
}

/// x[i] = 2^(factor (x[i] - shift)); returns the sum.
HWY_INLINE float exp2_row(float* x, std::int64_t count, float factor, float shift) {
  const std::int64_t lane_count = lanes();
  const Vec by = splat(factor);
  const Vec top = splat(shift);
  Vec total = splat(0);
  std::int64_t i = 0;
  for (; i + lane_count <= count; i += lane_count) {
    const Vec e = exp2_nonpositive(hn::Mul(by, hn::Sub(load(x + i), top)));
    store(e, x + i);
    total = hn::Add(total, e);
  }
  if (i < count) {
    const std::int64_t rest = count - i;
    const Vec e = exp2_nonpositive(hn::Mul(by, hn::Sub(load_some(x + i, rest), top)));
    store_some(e, x + i, rest);
    total = hn::Add(total, hn::IfThenElseZero(hn::FirstN(Floats(), static_cast<std::size_t>(rest)), e));
  }
  return sum_lanes(total);
}

/// out [R, N vectors] += weights [R, count] v [count, N vectors]: each vector of v is loaded and converted
/// once.
template <int R, int N, class T>
HWY_INLINE void weigh_block(const float* weights, std::int64_t weights_ld, const T* v, std::int64_t v_ld,
                            std::int64_t count, float* out, std::int64_t out_ld) {
  const std::int64_t lane_count = lanes();
  Vec sums[R][N];
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) sums[r][n] = load(out + r * out_ld + n * lane_count);
  }
  for (std::int64_t j = 0; j < count; ++j) {
    Vec values[N];
    for (int n = 0; n < N; ++n) values[n] = load(v + j * v_ld + n * lane_count);
    for (int r = 0; r < R; ++r) {
      const Vec weight = splat(weights[r * weights_ld + j]);
      for (int n = 0; n < N; ++n) sums[r][n] = hn::MulAdd(weight, values[n], sums[r][n]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) store(sums[r][n], out + r * out_ld + n * lane_count);
  }
}

/// The same for all rows; columns beyond the last whole vector one by one.
template <class T>
void weigh_values(const float* weights, std::int64_t weights_ld, std::int64_t rows, const T* v,
                  std::int64_t v_ld, std::int64_t count, const Geometry& g, float* out) {
  const std::int64_t lane_count = lanes();
  const std::int64_t whole = g.size / lane_count * lane_count;
  for (std::int64_t r = 0; r < rows; r += 4) {
    const float* w = weights + r * weights_ld;
    float* to = out + r * g.padded;
    for (std::int64_t i = 0; i < whole; i += lane_count) {
      const bool two = i + 2 * lane_count <= whole;
      const auto block = [&]<int R>() {
        if (two) {
          weigh_block<R, 2>(w, weights_ld, v + i, v_ld, count, to + i, g.padded);
        } else {
          weigh_block<R, 1>(w, weights_ld, v + i, v_ld, count, to + i, g.padded);
        }
      };
      if (rows - r >= 4) block.template operator()<4>();
      if (rows - r == 3) block.template operator()<3>();
      if (rows - r == 2) block.template operator()<2>();
      if (rows - r == 1) block.template operator()<1>();
      if (two) i += lane_count;
    }
    for (std::int64_t i = whole; i < g.size; ++i) {
      for (std::int64_t row = r; row < std::min(r + 4, rows); ++row) {
        for (std::int64_t j = 0; j < count; ++j)
          out[row * g.padded + i] += weights[row * weights_ld + j] * static_cast<float>(v[j * v_ld + i]);
      }
    }
  }
}

void decode_tile(const AttentionArgs& args, const Geometry& g, const Tile& tile, Range keys, float* memory,
                 const Sums& sums) {
  const Power power(args.scale);
  // Rows of q end in whole vectors: each but the last is cut short by the next.
  float* q = memory;
  float* scores = q + kTileRows * g.padded;
  // At most kNarrowRows rows: the tile's other rows have room for it.
  float* ordered = scores + gemm_detail::kNarrowRows * kKeyBlock;
  clear_sums(g, tile.count, sums);
  dispatch_floating(args.q.dtype, "attention", [&]<class T>() {
    for (std::int64_t i = 0; i < tile.count; ++i)
      widen_row(args.q.as<T>() + tile.offset(args.q, i), g.size, g.size, q + i * g.size);
  });
  for (std::int64_t i = 0; i < tile.count * g.size; ++i) q[i] *= power.sign;
  const Matrix k_head = head_of(args.k, tile.b, tile.key_head);
  const Matrix v_head = head_of(args.v, tile.b, tile.key_head);
  for (std::int64_t key = keys.begin; key < keys.end; key += kKeyBlock) {
    const std::int64_t count = std::min(kKeyBlock, keys.end - key);
    gemm_detail::narrow_product({q, DType::F32, g.size, 1}, tile.count, g.size, k_head.at(key, 0), count,
                                ordered, scores);
    for (std::int64_t i = 0; i < tile.count; ++i) {
      float* row = scores + i * count;
      for (std::int64_t j = 0; j < (args.distance_bias.present() ? count : 0); ++j)
        row[j] += distance_bias(args, tile, i, key + j);
      const float before = sums.top[i];
      sums.top[i] = std::max(before, max_of_row(row, count));
      const float shift = shift_of(sums.top[i]);
      const float sum = exp2_row(row, count, power.factor, shift);
      const float decay = before == sums.top[i] ? 1 : std::exp2(power.factor * (before - shift));
      sums.total[i] = sums.total[i] * decay + sum;
      if (decay != 1) scale_row(sums.out + i * g.padded, g.padded, decay);
    }
    dispatch_floating(args.v.dtype, "attention", [&]<class T>() {
      weigh_values(scores, count, tile.count, static_cast<const T*>(v_head.at(key, 0).data),
                   v_head.row_stride, count, g, sums.out);
    });
  }
}

/// Adds the sums of row i in `from` to those in `to`.
HWY_INLINE void join_row(const Geometry& g, float factor, std::int64_t i, const Sums& from, const Sums& to) {
  const float top = std::max(to.top[i], from.top[i]);
  const float shift = shift_of(top);
  const float decay = std::exp2(factor * (to.top[i] - shift));
  const float weight = std::exp2(factor * (from.top[i] - shift));
  scale_row(to.out + i * g.padded, g.padded, decay);
  add_scaled(weight, from.out + i * g.padded, g.padded, to.out + i * g.padded);
  to.total[i] = to.total[i] * decay + from.total[i] * weight;
  to.top[i] = top;
}

void finish_tile(const AttentionArgs& args, const Geometry& g, const Tile& tile, const Sums* parts,
                 std::int64_t count) {
  const Sums& sums = parts[0];
  const Power power(args.scale);
  for (std::int64_t i = 0; i < tile.count; ++i) {
    for (std::int64_t part = 1; part < count; ++part) join_row(g, power.factor, i, parts[part], sums);
    if (!args.top.present()) continue;
    tile.statistic(args.top, i) = power.sign * sums.top[i];
    tile.statistic(args.total, i) = sums.total[i];
  }
  dispatch_floating(args.out.dtype, "attention", [&]<class T>() {
    for (std::int64_t i = 0; i < tile.count; ++i) {
      const float factor = tile.rows[i].empty() ? 0.0F : 1 / sums.total[i];
      store_sum(&sums.out, 1, i * g.padded, factor, g.size, args.out.as<T>() + tile.offset(args.out, i));
    }
  });
}

}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela::attention_detail {
namespace {

HWY_EXPORT(forward_tile);
HWY_EXPORT(decode_tile);
HWY_EXPORT(finish_tile);

}  // namespace

std::int64_t forward_memory(const Geometry& g) {
  return 2 * kTileRows * g.padded + kKeyBlock * kTileRows;
}

void forward_tile(const AttentionArgs& args, const Geometry& g, const Tile& tile, Range keys, float* memory,
                  KeyCache& cache, const Sums& sums) {
  HWY_DYNAMIC_DISPATCH(forward_tile)(args, g, tile, keys, memory, cache, sums);
}

void decode_tile(const AttentionArgs& args, const Geometry& g, const Tile& tile, Range keys, float* memory,
                 const Sums& sums) {
  HWY_DYNAMIC_DISPATCH(decode_tile)(args, g, tile, keys, memory, sums);
}

void finish_tile(const AttentionArgs& args, const Geometry& g, const Tile& tile, const Sums* parts,
                 std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(finish_tile)(args, g, tile, parts, count);
}

}  // namespace candela::attention_detail
#endif
