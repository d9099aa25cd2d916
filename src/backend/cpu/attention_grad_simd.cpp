#include <algorithm>
#include <cmath>
#include <optional>

#include "backend/cpu/attention.h"
#include "backend/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_grad_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {

using attention_detail::head_of;

/// What the gradient needs of each row: weights are those of Power relative to shift, times share; delta =
/// dout . out.
struct RowFacts {
  alignas(64) float shift[kTileRows];
  alignas(64) float share[kTileRows];
  alignas(64) float delta[kTileRows];
};

HWY_INLINE float dot_rows(const float* a, const float* b, std::int64_t size) {
  Vec total = splat(0);
  for (std::int64_t i = 0; i < size; i += lanes()) total = hn::MulAdd(load(a + i), load(b + i), total);
  return sum_lanes(total);
}

/// The sum of weight times dout . v over the keys that row i sees, term by term. `buffer` has room for two
/// rows.
float sum_of_slopes(const AttentionArgs& forward, const Geometry& g, const Tile& tile, std::int64_t i,
                    const RowFacts& facts, const float* q, const float* dout, float* buffer) {
  const Range seen = tile.rows[i];
  const Power power(forward.scale);
  const auto row = [&](const TensorArg& x, std::int64_t key, float* to) {
    const Matrix head = head_of(x, tile.b, tile.key_head).at(key, 0);
    dispatch_floating(head.dtype, "attention",
                      [&]<class T>() { widen_row(static_cast<const T*>(head.data), g.size, g.padded, to); });
    return to;
  };
  float sum = 0;
  for (std::int64_t key = seen.begin; key < seen.end; ++key) {
    const float product = power.sign * dot_rows(q, row(forward.k, key, buffer), g.padded);
    const float weight = std::exp2(power.factor * (product - facts.shift[i])) * facts.share[i];
    sum += weight * dot_rows(dout, row(forward.v, key, buffer + g.padded), g.padded);
  }
  return sum;
}

/// `q` and `dout` are the tile's rows as floats, `buffer` has room for as many.
RowFacts row_facts(const AttentionArgs& forward, const Geometry& g, const Tile& tile, const float* q,
                   const float* dout, float* buffer) {
  RowFacts facts{};
  tile_rows(forward.out, g, tile, buffer);
  for (std::int64_t i = 0; i < tile.count; ++i) {
    const float top = Power(forward.scale).sign * tile.statistic(forward.top, i);
    facts.shift[i] = top == kMinusInfinity ? 0 : top;
    facts.share[i] = 1 / tile.statistic(forward.total, i);
    facts.delta[i] = dot_rows(dout + i * g.padded, buffer + i * g.padded, g.padded);
  }
  // An infinite dout times v is infinite with v's sign: terms of both signs add up to NaN, which their sum
  // taken over v first does not show.
  for (std::int64_t i = 0; i < tile.count; ++i) {
    if (!std::isinf(facts.delta[i])) continue;
    facts.delta[i] = sum_of_slopes(forward, g, tile, i, facts, q + i * g.padded, dout + i * g.padded, buffer);
  }
  return facts;
}

/// Products [count, kTileRows] become weights 2^(scale log2(e) product - shift) factor, and slopes, which
/// hold dout v, become weight (slope - delta) scale; zero where the row does not see the key. With `whole`
/// the block holds all keys of the tile, and delta is their sum of weight times slope.
template <bool kMasked>
void score_gradients(float* weights, float* slopes, std::int64_t count, const BlockMask* mask, double scale,
                     std::int64_t rows, const RowFacts& facts, bool whole) {
  const Vec zero = splat(0);
  const Vec by = splat(static_cast<float>(scale));
  const Vec to_power = splat(Power(scale).factor);
  for (std::int64_t i = 0; i < rows; i += lanes()) {
    const Sight<kMasked> sight(mask, i);
    const Vec shift = load(facts.shift + i);
    const Vec share = load(facts.share + i);
    const Vec delta = load(facts.delta + i);
    const Range keys = kMasked ? mask->columns[i / kPad] : Range{0, count};
    clear_unseen(weights + i, count, keys);
    clear_unseen(slopes + i, count, keys);
    Vec sum = zero;
    for (std::int64_t j = keys.begin; j < keys.end; ++j) {
      float* weight_at = weights + j * kTileRows + i;
      float* slope_at = slopes + j * kTileRows + i;
      const Vec below = hn::Sub(load(weight_at), shift);
      const Vec weight = hn::Mul(exp2_nonpositive(hn::Mul(to_power, below)), share);
      const Vec slope = load(slope_at);
      store(sight.keep_or(j, weight, zero), weight_at);
      sum = hn::Add(sum, sight.keep_or(j, hn::Mul(weight, slope), zero));
      if (whole) continue;
      const Vec gradient = hn::Mul(hn::Mul(weight, hn::Sub(slope, delta)), by);
      store(sight.keep_or(j, gradient, zero), slope_at);
    }
    if (!whole) continue;
    for (std::int64_t j = keys.begin; j < keys.end; ++j) {
      float* slope_at = slopes + j * kTileRows + i;
      const Vec weight = load(weights + j * kTileRows + i);
      const Vec gradient = hn::Mul(hn::Mul(weight, hn::Sub(load(slope_at), sum)), by);
      store(sight.keep_or(j, gradient, zero), slope_at);
    }
  }
}

/// One block of keys against the tile.
struct GradBlock {
  std::int64_t key, count;
  FloatRows q, dout, k;           // rows of the tile, and of the block
  const float *weights, *slopes;  // [count, kTileRows]
  float *dq, *dk, *dv;            // of the tile, and of the block
};

void add_products(const GradBlock& block, const BlockMask* mask, const Geometry& g, const Tile& tile) {
  add_to_keys(block.weights, block.dout.data, block.count, tile.count, mask, g, block.dv);
  add_to_keys(block.slopes, block.q.data, block.count, tile.count, mask, g, block.dk);
  add_to_rows(block.slopes, block.k, block.count, tile.count, mask, g, block.dq);
}

/// The same over the pairs of which the row sees the key, one by one: a weight of zero would let NaN and
/// infinity of the others through.
void add_seen(const GradBlock& block, const Geometry& g, const Tile& tile) {
  const std::int64_t size = whole_vectors(g.size);
  for (std::int64_t i = 0; i < tile.count; ++i) {
    const Range seen{std::max(tile.rows[i].begin, block.key),
                     std::min(tile.rows[i].end, block.key + block.count)};
    for (std::int64_t j = seen.begin - block.key; j < seen.end - block.key; ++j) {
      const std::int64_t at = j * kTileRows + i;
      add_scaled(block.weights[at], block.dout.data + i * g.padded, size, block.dv + j * g.padded);
      add_scaled(block.slopes[at], block.q.data + i * g.padded, size, block.dk + j * g.padded);
      add_scaled(block.slopes[at], block.k.data + j * block.k.ld, size, block.dq + i * g.padded);
    }
  }
}

void grad_tile(const AttentionGradArgs& args, const Geometry& g, const Tile& tile, Range keys, float* memory,
               KeyCache& cache, float* dq, float* dk, float* dv) {
  const AttentionArgs& forward = args.forward;
  const std::int64_t panel = kTileRows * g.padded;
  float* q = memory;
  float* q_transposed = q + panel;
  float* dout = q_transposed + panel;
  float* dout_transposed = dout + panel;
  float* weights = dout_transposed + panel;
  float* slopes = weights + kKeyBlock * kTileRows;
  tile_rows(forward.q, g, tile, q);
  transpose_rows(q, tile.count, g.padded, Power(forward.scale).sign, q_transposed);
  tile_rows(args.dout, g, tile, dout);
  const RowFacts facts = row_facts(forward, g, tile, q, dout, dout_transposed);
  transpose_rows(dout, tile.count, g.padded, 1, dout_transposed);
  std::fill_n(dq, tile.count * g.padded, 0.0F);
  const FloatRows q_rows{q, g.padded};
  const FloatRows dout_rows{dout, g.padded};
  const bool rows_finite =
      all_finite(q_rows, tile.count, g.padded) && all_finite(dout_rows, tile.count, g.padded);
  // dout . out equals the sum of weight times slope, but out was rounded to its dtype: where one block holds
  // all keys that the tile sees, the sum itself is taken.
  const bool whole = keys.count() == tile.hull.count() && keys.count() <= kKeyBlock;
  const std::int64_t columns = whole_vectors(tile.count);
  const TileKeys heads(forward, g, tile, keys, cache);
  for (std::int64_t key = keys.begin; key < keys.end; key += kKeyBlock) {
    const std::int64_t count = std::min(kKeyBlock, keys.end - key);
    const FloatRows k = heads.k(key, count);
    const FloatRows v = heads.v(key, count);
    const bool masked = tile.masks({key, key + count});
    const std::optional<BlockMask> mask =
        masked ? std::optional<BlockMask>({tile, key, count}) : std::nullopt;
    const BlockMask* seen_by = masked ? &*mask : nullptr;
    score_products(k, count, q_transposed, tile.count, seen_by, g, weights,
                   [&](std::int64_t j, std::int64_t rows) { heads.fetch(key + count + j, rows); });
    add_distance_bias(forward, tile, key, count, weights);
    score_products(v, count, dout_transposed, tile.count, seen_by, g, slopes,
                   [](std::int64_t, std::int64_t) {});
    (masked ? score_gradients<true> : score_gradients<false>)(weights, slopes, count, seen_by, forward.scale,
                                                              columns, facts, whole);
    const std::int64_t at = (key - keys.begin) * g.padded;
    const GradBlock block{key, count, q_rows, dout_rows, k, weights, slopes, dq, dk + at, dv + at};
    if (!masked || (rows_finite && all_finite(k, count, whole_vectors(g.size)))) {
      add_products(block, seen_by, g, tile);
    } else {
      add_seen(block, g, tile);
    }
  }
}

void store_tile(const float* const* parts, std::int64_t count, const TensorArg& x, const Geometry& g,
                const Tile& tile) {
  dispatch_floating(x.dtype, "attention", [&]<class T>() {
    for (std::int64_t i = 0; i < tile.count; ++i)
      store_sum(parts, count, i * g.padded, 1, g.size, x.as<T>() + tile.offset(x, i));
  });
}

void store_rows(const float* const* parts, std::int64_t count, const Matrix& to, std::int64_t rows,
                const Geometry& g) {
  dispatch_floating(to.dtype, "attention", [&]<class T>() {
    for (std::int64_t i = 0; i < rows; ++i)
      store_sum(parts, count, i * g.padded, 1, g.size, static_cast<T*>(to.data) + i * to.row_stride);
  });
}

}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela::attention_detail {
namespace {

HWY_EXPORT(grad_tile);
HWY_EXPORT(store_tile);
HWY_EXPORT(store_rows);

}  // namespace

std::int64_t grad_memory(const Geometry& g) {
  return 4 * kTileRows * g.padded + 2 * kKeyBlock * kTileRows;
}

void grad_tile(const AttentionGradArgs& args, const Geometry& g, const Tile& tile, Range keys, float* memory,
               KeyCache& cache, float* dq, float* dk, float* dv) {
  HWY_DYNAMIC_DISPATCH(grad_tile)(args, g, tile, keys, memory, cache, dq, dk, dv);
}

void store_tile(const float* const* parts, std::int64_t count, const TensorArg& x, const Geometry& g,
                const Tile& tile) {
  HWY_DYNAMIC_DISPATCH(store_tile)(parts, count, x, g, tile);
}

void store_rows(const float* const* parts, std::int64_t count, const Matrix& to, std::int64_t rows,
                const Geometry& g) {
  HWY_DYNAMIC_DISPATCH(store_rows)(parts, count, to, rows, g);
}

}  // namespace candela::attention_detail
#endif
